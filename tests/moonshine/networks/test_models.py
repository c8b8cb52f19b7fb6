"""Models by name: torchvision's, timm's and the user's own, and what is said where one cannot be had."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from moonshine.errors import MoonshineError
from moonshine.networks.models import build_model
from moonshine.networks.sources import sources
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure
from tests.messages import names, naming

OWN = """
import functools
from torch import nn

def build(width=4, classes=5, fail=False):
    if fail:
        raise RuntimeError("no such width")
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.Flatten(), nn.Linear(width, classes))

class Zoo:
    @staticmethod
    def small():
        return build(2)

wide = functools.partial(build, 16)
number = 3

def nothing():
    return {"weights": 1}
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of the user's own into the directory where the command is given; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    written: list[str] = []

    def make(text: str) -> str:
        name = f"own_nets_{len(written)}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        written.append(name)
        return name

    yield make
    for name in written:
        sys.modules.pop(name, None)


def test_a_builder_of_the_users_own_gets_its_arguments_and_no_others(write: Write) -> None:
    name = write(OWN)
    network = build_model(f"{name}:build", {"width": 6}, num_classes=99, in_channels=1)
    assert network[0].out_channels == 6  # type: ignore[index]
    assert build_model(f"{name}:Zoo.small", {}, 10)[0].out_channels == 2  # type: ignore[index]
    assert build_model(f"{name}:wide", {"classes": 3}, 10)[0].out_channels == 16  # type: ignore[index]


@pytest.mark.parametrize(
    ("attribute", "kwargs", "said"),
    [
        ("biuld", {}, ["biuld", "build"]),
        ("Zoo.large", {}, ["Zoo.large", "close to it"]),
        ("", {}, ["has no"]),
        ("number", {}, ["number", "int", "function"]),
        ("nothing", {}, ["dict", "torch.nn.Module"]),
        ("build", {"fail": True}, ["{'fail': True}", "RuntimeError: no such width"]),
        ("build", {"depth": 3}, ["TypeError", "depth"]),
    ],
)
def test_a_builder_that_does_not_build(
    write: Write, attribute: str, kwargs: dict[str, object], said: list[object]
) -> None:
    name = f"{write(OWN)}:{attribute}"
    with pytest.raises(MoonshineError, match=naming(*said)) as error:
        build_model(name, kwargs, 10)
    assert str(error.value).startswith(f"model {name}: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package_here", ["ModuleNotFoundError", "no_such_package_here"]),
        ("def build(:", ["SyntaxError"]),
        ("raise KeyError('settings')", ["KeyError", "settings"]),
        # A training script without a main guard.
        ("import sys; sys.exit('usage: train.py DATA')", ["SystemExit: usage: train"]),
    ],
)
def test_a_module_that_does_not_import(write: Write, text: str, said: list[object], tmp_path: Path) -> None:
    name = write(text)
    with pytest.raises(MoonshineError, match=naming(*said)) as error:
        build_model(f"{name}:build", {}, 10)
    assert names(str(error.value), f"{name}:build", name, tmp_path)


@pytest.mark.parametrize("name", ["no_such_nets_here:build", ":build", ".nets:build"])
def test_a_module_that_is_not_there(name: str) -> None:
    with pytest.raises(MoonshineError, match="does not import from"):
        build_model(name, {}, 10)


@pytest.mark.parametrize("name", ["resnet18", "keras/resnet18", "", "wrn-40-2"])
def test_a_name_of_no_library(name: str) -> None:
    with pytest.raises(MoonshineError, match=naming(name, "torchvision/<name>", "timm/<name>")):
        build_model(name, {}, 10)


def named(network: str, sources: dict[str, str] | None = None, **kwargs: object) -> Structure:
    """A structure as a file may hold it."""
    return Structure(
        network=network, kwargs=kwargs, num_classes=5, in_channels=3, blocks={}, source_sha256=sources
    )


@pytest.mark.parametrize(
    "network", ["os:mkdir", "pathlib:Path.mkdir", "torchvision.models:os.mkdir", "x/y:z"]
)
def test_code_that_only_a_structure_names_is_not_run(network: str, tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming(network, "not trusted", "torchvision/<name>")):
        from_structure(named(network, path=str(tmp_path / "made")))
    assert not (tmp_path / "made").exists()


def test_a_module_that_is_not_trusted_is_not_even_imported(write: Write, tmp_path: Path) -> None:
    name = write("open('imported', 'w')")
    for trust in ("", "own", "other", ("other", f"{name}:another"), f"{name}.inner"):
        with pytest.raises(MoonshineError, match=naming(name, f"trust='{name}'")):
            from_structure(named(f"{name}:build"), trust)
    assert not (tmp_path / "imported").exists()


def test_trust_is_in_a_package_or_in_one_builder(write: Write) -> None:
    name = write(OWN)
    for builder in ("build", "Zoo.small", "wide"):
        for trust in (name, f"{name}:{builder}", {"other", name}):
            structure = named(f"{name}:{builder}", sources(f"{name}:{builder}"))
            assert isinstance(from_structure(structure, trust), nn.Module)


def test_trusted_code_must_be_the_code_that_the_structure_was_written_with(write: Write) -> None:
    name = write(OWN)
    with pytest.raises(MoonshineError, match=naming("source_sha256", "None", "checksum")):
        from_structure(named(f"{name}:build"), name)


def test_trust_in_a_package_is_none_in_what_it_imports(write: Write, tmp_path: Path) -> None:
    name = write(
        f"import os\nfrom functools import partial\nmade = partial(os.mkdir, {str(tmp_path / 'made')!r})"
    )
    for builder in ("os.mkdir", "made"):
        with pytest.raises(MoonshineError, match=naming("posix", f"trust='{name}:{builder}'")):
            from_structure(named(f"{name}:{builder}", path=str(tmp_path / "made")), name)
    assert not (tmp_path / "made").exists()


def test_a_structures_arguments_are_plain_data() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(MoonshineError, match=naming("torchvision/resnet18", "kwargs", "JSON")):
        from_structure(named("torchvision/resnet18", norm_layer=nn.InstanceNorm2d))


def test_timm_reads_no_file_of_weights_by_itself() -> None:
    with pytest.raises(MoonshineError, match=naming("kwargs", "checkpoint_path", "teacher.weights")):
        build_model("timm/resnet18", {"checkpoint_path": "weights.pth"}, 10)


def test_torchvisions_segmentation_networks_return_their_logits() -> None:
    segmentation = pytest.importorskip("torchvision.models.segmentation")
    name, images = "lraspp_mobilenet_v3_large", torch.rand(2, 3, 32, 48)
    network = build_model(f"torchvision/{name}", {}, 4).eval()
    theirs = getattr(segmentation, name)(weights=None, weights_backbone=None, num_classes=4).eval()
    theirs.load_state_dict(network.state_dict())
    with torch.inference_mode():
        assert torch.equal(network(images), theirs(images)["out"])
        copied = copy.deepcopy(network)
        assert copied(images).shape == (2, 4, 32, 48)


def test_torchvision_gets_the_number_of_classes_unless_the_arguments_say_another() -> None:
    pytest.importorskip("torchvision")
    with torch.device("meta"):
        network = build_model("torchvision/resnet18", {}, 7)
        other = build_model("torchvision/resnet18", {"num_classes": 9, "norm_layer": nn.InstanceNorm2d}, 7)
        segmenting = build_model("torchvision/fcn_resnet50", {}, 4)
    assert network.fc.out_features == 7  # type: ignore[union-attr]
    assert other.fc.out_features == 9  # type: ignore[union-attr]
    assert isinstance(other.bn1, nn.InstanceNorm2d)
    assert segmenting.classifier[-1].out_channels == 4  # type: ignore[index, union-attr]


def test_an_unknown_name_is_answered_with_close_ones() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(MoonshineError, match=naming("torchvision/resnet19", "unknown", "resnet18")):
        build_model("torchvision/resnet19", {}, 10)
    with pytest.raises(MoonshineError, match=r"torchvision/ is unknown; close to it: \w+"):
        build_model("torchvision/", {}, 10)


def test_arguments_that_a_library_does_not_know() -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(MoonshineError, match=naming("torchvision/resnet18", "colour", "TypeError")):
        build_model("torchvision/resnet18", {"colour": 1}, 10)


def test_timm_gets_classes_and_channels() -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        network = build_model("timm/resnet18", {}, 7, in_channels=1)
    assert network.fc.out_features == 7  # type: ignore[union-attr]
    assert network.conv1.in_channels == 1  # type: ignore[union-attr]
    with pytest.raises(MoonshineError, match=naming("timm/resnet18x", "unknown", "resnet18")):
        build_model("timm/resnet18x", {}, 10)


@pytest.mark.parametrize(("library", "extra"), [("timm", "timm"), ("torchvision", "data")])
def test_a_library_that_is_not_installed_names_the_extra(
    library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MoonshineError) as error:
        build_model(f"{library}/resnet18", {}, 10)
    assert str(error.value) == (
        f"model {library}/resnet18: {library} is not installed; "
        f"install it with: pip install 'moonshine-distil[{extra}]'"
    )
