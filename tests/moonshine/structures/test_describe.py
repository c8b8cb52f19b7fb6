"""A model with blocks as data: through JSON and back, and models that are not what the data need."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine.structures.build import from_structure
from moonshine.structures.describe import check_logits, describe_model, places_of
from moonshine.structures.structure import Structure
from tests.messages import naming
from tests.moonshine.odd_networks import Dense, NamedOutputs, Net, spatial

SHAPE = (3, 32, 32)
ODD = "tests.moonshine.odd_networks"
OWN_MODULE = "structured_nets"
OWN = """
from tests.moonshine.odd_networks import Net, Residual, spatial
from torch import nn

def build(width=8):
    branch = nn.Sequential(spatial(8, width), nn.BatchNorm2d(width), nn.ReLU(), spatial(width, 8))
    return Net(Residual(branch), spatial())
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file of the user's own on the Python path, with a builder of networks for five classes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "structured_nets.py"
    path.write_text(OWN)
    yield path
    sys.modules.pop("structured_nets", None)


def through_json(structure: Structure) -> Structure:
    return Structure.model_validate_json(json.dumps(structure.content()))


def shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("block", ["S", "G(4)", "BG(2,M/2)"])
def test_a_model_of_the_users_own_comes_back_with_the_same_weights_to_fill(own: Path, block: str) -> None:
    structure, module, layout = describe_model(
        "structured_nets:build", {"width": 16}, 5, SHAPE, exclude=["body.1"]
    )
    assert structure.blocks == {"body.0": "S"}
    assert structure.kept == {"stem": "the stem", "body.1": "excluded"}
    assert [place.path for place in layout.places] == ["body.0"]
    structure = structure.with_blocks({"body.0": block})
    first, second = (from_structure(through_json(structure), OWN_MODULE) for _ in range(2))
    assert shapes(first) == shapes(second)
    assert (shapes(first) == shapes(module)) is (block == "S")
    second.load_state_dict(first.state_dict())
    x = torch.randn(2, *SHAPE)
    torch.testing.assert_close(first.eval()(x), second.eval()(x))


def test_a_torchvision_model_comes_back_with_a_block_at_every_place() -> None:
    pytest.importorskip("torchvision")
    structure, module, layout = describe_model("torchvision/resnet18", {}, 10, SHAPE)
    assert len(layout.places) == 8
    structure = structure.with_blocks(dict.fromkeys(structure.blocks, "G(N)"))
    with torch.device("meta"):
        student = from_structure(through_json(structure), OWN_MODULE)
    places = tuple(f"{path}." for path in structure.blocks)
    outside = {key: shape for key, shape in shapes(module).items() if not key.startswith(places)}
    assert outside.items() <= shapes(student).items()
    assert shapes(student)["layer2.0.conv1.conv1.weight"] == (64, 1, 3, 3)
    assert shapes(student)["layer2.0.conv1.conv2.weight"] == (128, 64, 1, 1)


def test_the_structure_is_the_same_every_time(own: Path) -> None:
    found = [describe_model("structured_nets:build", {}, 5, SHAPE)[0] for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].in_channels == 3
    assert (found[0].source_sha256 or {}).keys() >= {OWN_MODULE, "tests.moonshine.odd_networks"}


def test_a_builder_that_changes_its_arguments_gets_them_anew_each_time(own: Path, tmp_path: Path) -> None:
    own.write_text(
        OWN.replace(
            "(width=8):", "(options):\n    assert type(options) is dict\n    width = options.pop('width')"
        )
    )
    kwargs = {"options": {"width": 6}}
    structure, module, _ = describe_model("structured_nets:build", kwargs, 5, SHAPE)
    assert structure.kwargs == kwargs == {"options": {"width": 6}}
    structure.write(tmp_path / "structure.json")
    read = Structure.read(tmp_path / "structure.json")
    for _ in range(2):
        assert shapes(from_structure(read, OWN_MODULE)) == shapes(module)


def test_a_file_that_changed_since_is_an_error(own: Path) -> None:
    structure, _, _ = describe_model("structured_nets:build", {}, 5, SHAPE)
    own.write_text(OWN + "\n# changed\n")
    with pytest.raises(MoonshineError, match=naming("structured_nets:build", "has changed")):
        from_structure(through_json(structure), OWN_MODULE)
    own.write_text(OWN)
    assert shapes(from_structure(structure, OWN_MODULE))


@pytest.mark.parametrize(
    ("blocks", "said"),
    [({"body.9": "G(4)"}, ["body.9"]), ({"body.1": "G(3)"}, ["3 groups", "N = 8"])],
)
def test_blocks_that_do_not_fit_the_model(own: Path, blocks: dict[str, str], said: list[object]) -> None:
    structure, _, _ = describe_model("structured_nets:build", {}, 5, SHAPE)
    with pytest.raises(MoonshineError, match=naming(*said)):
        from_structure(structure.with_blocks(blocks), OWN_MODULE)


@pytest.mark.parametrize(
    ("shape", "classes", "said"),
    [
        ((1, 32, 32), 5, ["Backwards", "1x32x32", "3 channels"]),
        (SHAPE, 10, ["(1, 5)", "(1, 10)", "10 classes"]),
    ],
)
def test_a_model_that_does_not_suit_the_data(
    shape: tuple[int, ...], classes: int, said: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        describe_model(f"{ODD}:Backwards", {}, classes, shape)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (NamedOutputs(), ["dict", "logits"]),
        (nn.Conv2d(3, 5, 3), ["(1, 5, 30, 30)"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(5, 5)), ["3x32x32"]),
    ],
)
def test_logits_are_checked(network: nn.Module, said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming(*said)):
        check_logits(network, "mine", SHAPE, 5)


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (Net(spatial()), ["(1, 5)", "(1, 5, 32, 32)"]),
        (nn.Conv2d(3, 5, 3), ["(1, 5, 30, 30)", "(1, 5, 32, 32)"]),
        (
            NamedOutputs(),
            ["(1, 5, 32, 32)"],
        ),
    ],
)
def test_of_label_maps_every_pixel_has_logits(network: nn.Module, said: list[object]) -> None:
    check_logits(Dense(), "mine", SHAPE, 5, dense=True)
    with pytest.raises(MoonshineError, match=naming(*said)):
        check_logits(network, "mine", SHAPE, 5, dense=True)


def test_without_data_both_will_do() -> None:
    for network in (Dense(), Net(spatial())):
        check_logits(network, "mine", SHAPE, 5, dense=None)
    with pytest.raises(MoonshineError, match=naming("(1, 6)", "(1, 6, 32, 32)")):
        check_logits(Dense(), "mine", SHAPE, 6, dense=None)


def test_a_model_that_labels_every_pixel_is_laid_out() -> None:
    structure, _, _ = describe_model(f"{ODD}:Dense", {}, 5, SHAPE, dense=True)
    assert structure.blocks == {"block": "S", "tail": "S"}
    with pytest.raises(MoonshineError, match=naming("(1, 5, 32, 32)", "(1, 5)")):
        describe_model(f"{ODD}:Dense", {}, 5, SHAPE)


def test_checking_leaves_the_modes_of_frozen_parts() -> None:
    network = Net(spatial(), nn.BatchNorm2d(8).eval())
    check_logits(network, "mine", SHAPE, 5)
    assert (network.training, network.body[1].training) == (True, False)


@pytest.mark.parametrize(
    "kwargs", [{"norm": nn.BatchNorm2d}, {"sizes": (3, 3)}, {1: "a"}, {"rate": float("nan")}]
)
def test_arguments_that_json_would_not_give_back(kwargs: dict[Any, Any]) -> None:
    with pytest.raises(MoonshineError, match=naming("teacher.kwargs", "{", "JSON")):
        describe_model(f"{ODD}:Backwards", kwargs, 5, SHAPE)


def test_the_blocks_that_fit_at_each_place(own: Path) -> None:
    structure, fitting, refused = places_of(
        "structured_nets:build", {"width": 12}, 5, SHAPE, ["S", "G(8)", "B(2)", "B(3)"]
    )
    assert structure.blocks == {"body.0": "S", "body.1": "S"}
    assert fitting == {"body.0": ("S", "B(2)"), "body.1": ("S", "G(8)", "B(2)")}
    assert {path: set(each) for path, each in refused.items()} == {
        "body.0": {"G(8)", "B(3)"},
        "body.1": {"B(3)"},
    }
    assert "body.0" in refused["body.0"]["G(8)"]
    ours, fitting, refused = places_of("wrn-10-1", {}, 10, SHAPE, ["G(32)", "B(2)"])
    assert fitting == {"stage1.0": ("B(2)",), "stage2.0": ("B(2)",), "stage3.0": ("G(32)", "B(2)")}
    assert set(fitting) == set(ours.blocks)


def test_a_model_with_nothing_to_swap() -> None:
    with pytest.raises(MoonshineError, match=naming("convolution", "stem: stem")):
        places_of(f"{ODD}:Net", {}, 5, SHAPE, ["G(4)"])


def test_code_that_is_edited_while_it_runs_is_recorded_as_it_was(own: Path) -> None:
    own.write_text(OWN + "open(__file__, 'a').write('# later')\n")
    before = sha256(own)
    structure, _, _ = describe_model(f"{OWN_MODULE}:build", {}, 5, SHAPE)
    assert (structure.source_sha256 or {})[OWN_MODULE] == before != sha256(own)
