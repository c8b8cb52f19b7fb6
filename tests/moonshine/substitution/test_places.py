"""Where blocks can go, what stands there, and the reason where there is no place."""

from __future__ import annotations

import pytest
from torch import nn

from moonshine.blocks.geometry import Geometry
from moonshine.blocks.registry import plan_block
from moonshine.errors import MoonshineError
from moonshine.substitution.places import Place, find_place, lone_place
from tests.messages import naming
from tests.moonshine.odd_networks import Net, spatial
from tests.moonshine.residual_blocks import make_block


def test_a_place_is_found_where_a_convolution_or_a_residual_block_is() -> None:
    network = Net(spatial(), make_block("S", 8, 8))
    assert find_place("body.0", network.body[0]) == Place("body.0", ("body.0",), (Geometry(8, 8, bias=True),))
    found = find_place("body.1", network.body[1])
    assert found.convolutions == ("body.1.branch.conv1", "body.1.branch.conv2")
    assert found.norms == ("body.1.branch.norm2",)
    assert found.geometries == (Geometry(8, 8), Geometry(8, 8))


@pytest.mark.parametrize(
    "found",
    [nn.ReLU(), nn.Conv2d(8, 8, 1), spatial(groups=8), nn.ConvTranspose2d(8, 8, 3), nn.Sequential(spatial())],
)
def test_no_place(found: nn.Module) -> None:
    with pytest.raises(MoonshineError, match=naming(type(found).__name__, "residual block")):
        find_place("here", found)


def test_what_stands_at_a_place_is_that_of_the_convolution() -> None:
    conv = nn.Conv2d(8, 12, (1, 5), (2, 1), (0, 4), (1, 2), bias=False, padding_mode="reflect")
    (found,) = lone_place("here", conv).geometries
    assert found == Geometry(8, 12, (1, 5), (2, 1), (1, 2), (0, 4), "reflect")
    assert lone_place("here", spatial()).geometries[0].bias


def test_a_block_that_does_not_fit_names_the_place() -> None:
    place = lone_place("body.0", spatial(8, 12))
    with pytest.raises(MoonshineError, match=naming("G(3)", "body.0", "3 groups", "N = 8")):
        plan_block("G(3)", place.geometries, place.path)
