"""The graph that is converted: what 8-bit operators do badly is rewritten, and means the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from moonshine.errors import MoonshineError
from moonshine.formats.tflite.graph import pixel_range, to_quantisable
from moonshine.structures.build import build
from tests.messages import naming
from tests.moonshine.formats.tflite.tiny import ABOUT, images, logits, tiny

aten = torch.ops.aten


def test_batch_norms_that_nothing_folds_become_depthwise_convolutions() -> None:
    program = to_quantisable(tiny(), ABOUT)
    graph = program.graph_module.graph
    (left,) = graph.find_nodes(op="call_function", target=aten.batch_norm.default)
    assert left.args[0].target is aten.conv2d.default
    convolutions = graph.find_nodes(op="call_function", target=aten.conv2d.default)
    depthwise = [node for node in convolutions if node.args[6:] in ((3,), (8,))]
    assert len(depthwise) == 3  # of the normalisation, and of the batch norms after the stem and the sum
    pixels = images(1, seed=3)
    torch.testing.assert_close(program.module()(pixels.float() / 255), logits(pixels), atol=1e-5, rtol=1e-5)


def test_linear_layers_of_vectors_become_convolutions() -> None:
    graph = to_quantisable(tiny(), ABOUT).graph_module.graph
    assert not graph.find_nodes(op="call_function", target=aten.linear.default)
    per_pixel = nn.Sequential(
        nn.Flatten(2), nn.Linear(64, 4, bias=False), nn.Flatten(), nn.Linear(12, 2, bias=False)
    )
    program = to_quantisable(per_pixel, replace(ABOUT, mean=(0.5,) * 3, std=(0.5,) * 3))
    (left,) = program.graph_module.graph.find_nodes(op="call_function", target=aten.linear.default)
    assert left.meta["val"].shape == (1, 3, 4)
    images = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(program.module()(images), per_pixel(images))


@pytest.mark.parametrize(("mean", "std"), [((0.1,), (0.3,)), ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))])
def test_one_normalisation_for_all_channels_is_part_of_the_inputs_scale(
    mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    about = replace(ABOUT, mean=mean, std=std, input_shape=(len(mean), 8, 8))
    least, most = pixel_range(about)
    assert (least, most) == pytest.approx((-mean[0] / std[0], (1 - mean[0]) / std[0]))
    network = nn.Conv2d(len(mean), 2, 3)
    program = to_quantisable(network, about)
    normalised = torch.rand(1, len(mean), 8, 8)
    torch.testing.assert_close(program.module()(normalised), network(normalised))


@pytest.mark.parametrize("mean", [(0.1, 0.2, 0.3), (1.5, 1.5, 1.5)])
def test_another_normalisation_is_part_of_the_graph(mean: tuple[float, ...]) -> None:
    assert pixel_range(replace(ABOUT, mean=mean)) == (0.0, 1.0)


def test_transposed_convolutions_are_refused() -> None:
    about = replace(ABOUT, scored_classes=5, input_shape=(3, 16, 16))
    with pytest.raises(
        MoonshineError, match=naming("tflite-int8", "transposed", "up1.0", "up2.0", "head", "allowed")
    ):
        to_quantisable(build("erfnet", "S", 5, 3), about)
