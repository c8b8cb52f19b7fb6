"""Where attention is transferred: found by itself, the same in every student, or given and checked."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moonshine.distillation.taps import record
from moonshine.errors import MoonshineError
from moonshine.substitution.layout import lay_out
from moonshine.substitution.replacement import apply
from moonshine.substitution.substitute import choose
from moonshine.substitution.tap_discovery import check_taps, discover_taps, tap_sizes
from tests.messages import names, naming
from tests.moonshine.library_networks import on_cpu, on_meta
from tests.moonshine.odd_networks import NETWORKS, Backwards, NamedOutputs, Net, Residual, Reused, spatial

SHAPE = (3, 32, 32)
KINDS = ["G(4)", "B(2)", "BG(2,M)"]


def found(network: nn.Module, shape: tuple[int, ...] = SHAPE, **kwargs: Any) -> tuple[str, ...]:
    return discover_taps(network, shape, lay_out(network, shape, **kwargs))


def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A residual block that changes resolution and width, and one that keeps them."""
    jump = nn.Conv2d(inputs, outputs, 1, stride)
    first = nn.Sequential(
        spatial(inputs, outputs, stride=stride), nn.BatchNorm2d(outputs), nn.ReLU(), spatial(outputs, outputs)
    )
    second = nn.Sequential(
        spatial(outputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(), spatial(outputs, outputs)
    )
    return nn.Sequential(Residual(first, jump), Residual(second))


def residual_network(*strides: int) -> Net:
    body = [stage(8 if number == 0 else 16, 16, stride) for number, stride in enumerate(strides)]
    return Net(*body, width=16)


@pytest.mark.parametrize(
    ("name", "shape", "taps"),
    [
        ("torchvision/resnet18", (3, 64, 64), ["layer1", "layer2", "layer3", "layer4"]),
        ("torchvision/resnet34", (3, 64, 64), ["layer1", "layer2", "layer3", "layer4"]),
        ("torchvision/resnet50", (3, 96, 64), ["layer1", "layer2", "layer3", "layer4"]),
        ("torchvision/vgg16_bn", (3, 64, 64), [f"features.{end}" for end in (5, 12, 22, 32, 42)]),
        (
            "torchvision/densenet121",
            (3, 64, 64),
            ["features.denseblock1", "features.denseblock2", "features.denseblock3", "features"],
        ),
        ("segmentation/fcn_resnet50", (3, 64, 64), ["backbone.layer1", "classifier.3"]),
        ("timm/resnet18", (3, 64, 64), ["layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_networks_of_libraries(name: str, shape: tuple[int, ...], taps: list[str]) -> None:
    network = on_cpu(copy.deepcopy(on_meta(name)))
    assert list(found(network, shape)) == taps


@pytest.mark.parametrize("block", KINDS)
def test_every_student_has_the_taps_with_maps_of_the_same_size(block: str) -> None:
    network = residual_network(1, 2, 2)
    layout = lay_out(network, SHAPE)
    taps = discover_taps(network, SHAPE, layout)
    assert taps == ("body.0", "body.1", "body")
    with record(network, taps) as maps:
        network(torch.zeros(2, *SHAPE))
    sizes = {path: tuple(each.shape) for path, each in maps.items()}
    apply(network, choose(layout, block)[0])
    with record(network, taps) as maps:
        network(torch.zeros(2, *SHAPE))
    assert {path: tuple(each.shape) for path, each in maps.items()} == sizes
    assert sizes == {"body.0": (2, 16, 32, 32), "body.1": (2, 16, 16, 16), "body": (2, 16, 8, 8)}


@pytest.mark.parametrize("block", KINDS)
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "reused"])
def test_unusual_networks_share_their_taps_with_their_students(name: str, block: str) -> None:
    network = NETWORKS[name][0]()
    layout = lay_out(network, SHAPE)
    taps = discover_taps(network, SHAPE, layout)
    sizes = tap_sizes(network, taps, SHAPE)
    assert len(sizes) == len(taps) > 0
    apply(network, choose(layout, block)[0])
    check_taps(taps, sizes, network, SHAPE)


def test_a_map_of_one_pixel_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "moonshine"):
        assert found(residual_network(1, 2, 2), (3, 4, 4)) == ("body.0", "body.1")
    assert "tap body: its map is 1x1 and was dropped" in caplog.text


def test_where_only_one_pixel_is_left_the_error_says_what_to_do() -> None:
    with pytest.raises(MoonshineError, match=naming("tap", "3x1x1", "teacher.taps")):
        found(residual_network(1), (3, 1, 1))


def test_maps_before_the_first_place_do_not_count() -> None:
    network = residual_network(1, 2, 2)
    assert found(network, include=["body.2"]) == ("body",)
    assert found(network, include=["body.1.1", "body.2"]) == ("body.1", "body")


def test_what_holds_the_head_or_comes_after_it_is_no_tap() -> None:
    class Decoder(nn.Module):
        """Its head is a convolution inside a module, and its logits end at the resolution of the encoder."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.body = spatial(3, 8), nn.Sequential(spatial(8, 8, stride=2), spatial())
            self.classifier = nn.Sequential(nn.Upsample(scale_factor=4), spatial(), nn.Conv2d(8, 5, 1))
            self.smaller = nn.AvgPool2d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.smaller(self.classifier(self.body(self.stem(x))))

    assert found(Decoder()) == ("body", "classifier.1")


def test_a_resolution_at_which_no_convolution_computes_has_no_tap() -> None:
    assert found(Net(spatial(), nn.MaxPool2d(2), spatial(), nn.MaxPool2d(2))) == ("body.0", "body.2")


def test_a_module_that_runs_twice_is_no_tap() -> None:
    network = Reused()
    with pytest.raises(MoonshineError, match="found no tap"):
        found(network)


def test_a_network_without_places() -> None:
    with pytest.raises(MoonshineError, match=naming("Net", "place")):
        found(Net())


def test_the_order_is_that_of_the_forward_pass() -> None:
    assert found(Backwards()) == ("second",)
    assert found(NamedOutputs()) == ("body",)


def test_given_taps_have_sizes() -> None:
    network = residual_network(1, 2)
    assert tap_sizes(network, ["body.1", "stem"], (3, 32, 16)) == {"body.1": (16, 8), "stem": (32, 16)}


@pytest.mark.parametrize(
    ("tap", "said"),
    [
        (
            "layer1",
            ["layer1", "Net", "stem, body"],
        ),
        ("head", ["head", "(n, channels, height, width)"]),
    ],
)
def test_a_tap_that_is_not_there_or_gives_no_map(tap: str, said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming("teacher.taps", *said)):
        tap_sizes(residual_network(1), ["stem", tap], SHAPE)


def test_taps_that_differ_in_size_are_all_named() -> None:
    taps = ["stem", "body.0", "body.1"]
    sizes = tap_sizes(residual_network(1, 2), taps, SHAPE)
    with pytest.raises(MoonshineError) as error:
        check_taps(taps, sizes, residual_network(2, 2), SHAPE)
    said = str(error.value)
    assert names(said, "body.0", "16x16", "32x32", "body.1", "8x8")
    assert "stem" not in said
    check_taps(taps, sizes, residual_network(1, 2), SHAPE)
    with pytest.raises(MoonshineError, match=naming("body.1", "does not exist")):
        check_taps(taps, sizes, residual_network(1), SHAPE)
