"""Which convolutions a cheap block may replace, and the reason why each of the others stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn
from torch.nn.utils import prune

from moonshine.blocks.geometry import Geometry
from moonshine.errors import MoonshineError
from moonshine.structures.build import build, residual_blocks
from moonshine.substitution.layout import lay_out
from moonshine.substitution.places import Place
from tests.moonshine.odd_networks import (
    NETWORKS,
    SHAPE,
    Aliased,
    Backwards,
    Net,
    Residual,
    Undecided,
    spatial,
)
from tests.moonshine.residual_blocks import make_block


class Block(Residual):
    """A residual block under a name that a pattern can give."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(), spatial()))


class ThreeStages(nn.Module):
    """A stem, residual blocks in two stages, and a head that is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = spatial(3, 8)
        self.layer1 = nn.Sequential(Block(), Block())
        self.layer2 = nn.Sequential(spatial(), Block())
        self.score = spatial(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(self.layer2(self.layer1(self.conv1(x))))


BLOCKS = ["layer1.0", "layer1.1", "layer2.1"]


def paths(network: nn.Module, **kwargs: object) -> list[str]:
    return [place.path for place in lay_out(network, SHAPE, **kwargs).places]  # type: ignore[arg-type]


def test_residual_blocks_are_one_place_and_the_rest_one_by_one() -> None:
    layout = lay_out(ThreeStages(), SHAPE)
    assert [place.path for place in layout.places] == ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]
    assert layout.places[0] == Place(
        "layer1.0",
        ("layer1.0.branch.0", "layer1.0.branch.3"),
        (Geometry(8, 8, bias=True),) * 2,
        ("layer1.0.branch.1",),
    )
    assert layout.places[2] == Place("layer2.0", ("layer2.0",), (Geometry(8, 8, bias=True),))
    assert layout.kept == {"conv1": "the stem", "score": "the head"}


def test_a_network_of_ours_has_its_residual_blocks() -> None:
    layout = lay_out(build("wrn-16-2"), (3, 32, 32))
    assert tuple(place.path for place in layout.places) == residual_blocks("wrn-16-2")
    assert layout.kept == {
        "stem": "the stem",
        "stage1.0.shortcut": "1x1",
        "stage2.0.shortcut": "1x1",
        "stage3.0.shortcut": "1x1",
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_an_unusual_forward_pass(name: str) -> None:
    make, expected = NETWORKS[name]
    assert paths(make()) == expected


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("backwards", {"first": "the stem", "last": "the head"}),
        ("tied", {"body.0": "shares its weights", "body.1": "shares its weights"}),
        ("tied to its inverse", {"body.0": "shares its weights"}),
        ("undecided", {"body.1": "takes no part in the forward pass"}),
        ("weight norm", {"body.0": "a ParametrizedConv2d, not a plain Conv2d"}),
        ("grouped", {"body.0": "already grouped"}),
        ("3x3 shortcut", {"body.0.shortcut": "a shortcut"}),
    ],
)
def test_why_a_convolution_stays(name: str, kept: dict[str, str]) -> None:
    found = lay_out(NETWORKS[name][0](), SHAPE).kept
    assert {path: reason for path, reason in found.items() if path != "stem"} == kept


@pytest.mark.parametrize(
    "compute", [nn.utils.weight_norm, lambda conv: prune.l1_unstructured(conv, "weight", 0.5)]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_a_hook_computes_stay(compute: Callable[[nn.Module], nn.Module]) -> None:
    network = Net(compute(spatial()), spatial())
    layout = lay_out(network, SHAPE)
    assert [place.path for place in layout.places] == ["body.1"]
    assert layout.kept["body.0"] == "computes its weights"


def test_without_an_input_shape_the_order_of_registration_stands_for_that_of_the_forward_pass() -> None:
    layout = lay_out(Backwards())
    assert [place.path for place in layout.places] == ["second"]
    assert layout.kept == {"last": "the stem", "first": "the head"}
    assert [place.path for place in lay_out(Undecided()).places] == ["body.0", "body.1"]


def test_a_module_with_two_names_is_one_place() -> None:
    assert paths(Aliased()) == ["body.0"]


def test_a_stem_or_head_of_another_kind_frees_the_convolutions() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(3, 8, 2, 2), spatial(), nn.Flatten(2), nn.Linear(1024, 5))
    assert paths(network) == ["1"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["layer1.*"], [], ["layer1.0", "layer1.1"]),
        (["layer1"], [], ["layer1.0", "layer1.1"]),
        (["*.1"], [], ["layer1.1", "layer2.1"]),
        (["type:Block"], [], BLOCKS),
        (["type:Residual"], [], BLOCKS),
        (["type:Sequential"], ["type:Block"], ["layer2.0"]),
        ([], ["layer1.*", "layer2.0"], ["layer2.1"]),
        (["layer?.1"], ["layer1.*"], ["layer2.1"]),
        # A part of a residual block is a place of its own.
        (["layer1.0.branch.0"], [], ["layer1.0.branch.0"]),
        ([], ["layer1.0.branch.3", "layer1.1", "layer2"], ["layer1.0.branch.0"]),
        # The stem, the head and a shortcut are freed by their whole path and by nothing else.
        (["conv1"], [], ["conv1"]),
        (["conv1", "score", "layer2.0"], [], ["conv1", "layer2.0", "score"]),
        (["*"], [], ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]),
        (["*onv1", "layer2.0"], [], ["layer2.0"]),
        (["type:Conv2d"], [], ["layer1.0", "layer1.1", "layer2.0", "layer2.1"]),
    ],
)
def test_patterns(include: list[str], exclude: list[str], expected: list[str]) -> None:
    assert paths(ThreeStages(), include=include, exclude=exclude) == expected


def test_what_patterns_keep_says_so() -> None:
    layout = lay_out(ThreeStages(), SHAPE, include=["layer2"], exclude=["layer2.0"])
    assert layout.kept["layer1.0.branch.0"] == "not included"
    assert layout.kept["layer2.0"] == "excluded"
    assert layout.kept["conv1"] == "the stem"


def test_a_shortcut_is_freed_by_its_path() -> None:
    network = NETWORKS["3x3 shortcut"][0]()
    assert paths(network, include=["body.0.shortcut"]) == ["body.0.shortcut"]


@pytest.mark.parametrize(
    "pattern", ["layer9.*", "Layer1", "type:Bottleneck", "type:block", "", "layer1.0.branch.1"]
)
@pytest.mark.parametrize("key", ["include", "exclude"])
def test_a_pattern_that_matches_no_convolution(pattern: str, key: str) -> None:
    with pytest.raises(MoonshineError) as error:
        lay_out(ThreeStages(), SHAPE, **{key: ["layer1", pattern]})
    assert f"pattern {pattern!r} matches no convolution" in str(error.value)
    assert "conv1, layer1.0.branch.0" in str(error.value)


def test_an_input_that_the_network_cannot_take() -> None:
    with pytest.raises(MoonshineError, match="an input of 1x8x8"):
        lay_out(ThreeStages(), (1, 8, 8))


def test_a_network_without_convolutions_has_no_places() -> None:
    assert lay_out(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), SHAPE).places == ()
    assert lay_out(nn.Flatten(), SHAPE).kept == {}


def test_half_of_a_pair_that_is_special_leaves_the_other_alone() -> None:
    block = make_block("S", 8, 8)
    block.branch.conv1.weight = block.branch.conv2.weight  # type: ignore[union-attr]
    assert paths(Net(block, spatial())) == ["body.1"]
