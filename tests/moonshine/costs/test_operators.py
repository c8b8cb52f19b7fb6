"""Multiply-accumulates by operator: what each way of multiplying counts, and what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import flop_registry, register_flop_formula

from moonshine import MoonshineError
from moonshine.costs.cost import cost
from tests.messages import naming


class Function(nn.Module):
    """A module from a function of itself and its input, with parameters (and one buffer) by keyword."""

    def __init__(self, function, buffer=None, **tensors):
        super().__init__()
        self.function = function
        self.register_buffer("buffer", buffer)
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))

    def forward(self, x):
        return self.function(self, x)


def macs(function, shape, **tensors):
    return cost(Function(function, **tensors), shape).macs


W = torch.zeros(8, 6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda m, x: x @ m.w.T, 5 * 48),
        (lambda m, x: torch.einsum("nti,oi->nto", x, m.w), 5 * 48),
        (lambda m, x: x[0, 0] @ m.w.T, 48),
        (lambda m, x: torch.mv(m.w, x[0, 0]), 48),
        (lambda m, x: torch.addmv(m.w[:, 0], m.w, x[0, 0]), 48),
        (lambda m, x: torch.dot(x[0, 0], m.w[0]), 6),
        (lambda m, x: torch.zeros(5, 8).addmm_(x[0], m.w.T), 5 * 48),
        (lambda m, x: torch.addbmm(torch.zeros(8), x, m.w.T[None]), 5 * 48),
        (lambda m, x: x @ (2 * m.w).T, 5 * 48),
        (lambda m, x: x @ m.w.T.contiguous().clone(), 5 * 48),
        (lambda m, x: (x[..., None, :] * m.w).sum(-1), 0),  # elementwise
        (lambda m, x: x @ x.mT, 0),  # activations
        (lambda m, x: x @ torch.zeros(6, 3), 0),
    ],
)
def test_products_with_one_weight_count(function, expected):
    assert macs(function, (5, 6), w=W) == expected


def test_a_state_that_starts_as_zeros_is_no_weight():
    recurrent = Function(lambda m, x: m.layer(x)[0])
    for kind, gates in ((nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)):
        recurrent.layer = kind(4, 3, batch_first=True)
        assert cost(recurrent, (5, 4)).macs == 5 * gates * 3 * (4 + 3), kind
        recurrent.layer = kind(4, 3, batch_first=True, num_layers=2, bidirectional=True)
        assert cost(recurrent, (5, 4)).macs == 5 * 2 * gates * 3 * (4 + 3 + 6 + 3), kind


def generated(module, x):
    """A convolution whose kernel (6, 4, 3, 3) is the product of two cores, one of them transformed."""
    kernel = torch.einsum("or,rik->oik", torch.fft.rfft(module.left).real, module.right)
    return functional.conv2d(x, kernel.reshape(6, 4, 3, 3), padding=1)


def test_a_generated_kernel_counts_as_the_dense_convolution():
    cores = {"left": torch.zeros(6, 4), "right": torch.zeros(3, 4, 9)}
    assert macs(generated, (4, 5, 7), **cores) == 5 * 7 * 6 * 4 * 9

    def filled(module, x):
        kernel = torch.zeros(6, 4, 3, 3)
        kernel[:, :, 1, 1] = module.left @ module.buffer
        return functional.conv2d(x, kernel, padding=1)

    fixed = torch.ones(4, 4)
    assert macs(filled, (4, 5, 7), left=torch.zeros(6, 4), buffer=fixed) == 5 * 7 * 6 * 4 * 9


def test_weight_normalised_linear_layers_count():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 8))
    assert cost(layer, (5, 6)).macs == 5 * 48


@pytest.mark.parametrize(
    ("function", "operator"),
    [
        (lambda m, x: torch.fft.rfft2(x).real, "aten::_fft_r2c"),
        (lambda m, x: torch.cdist(x, m.w), "aten::_cdist_forward"),
        (lambda m, x: torch.linalg.solve(torch.eye(5) + x @ x.mT, x), "aten::_linalg_solve_ex"),
        (lambda m, x: functional.bilinear(x, x, m.w.new_zeros(2, 6, 6)), "aten::_trilinear"),
    ],
)
def test_what_multiplies_without_a_formula_is_named(function, operator):
    with pytest.raises(MoonshineError, match=naming(operator, "convolutions", "products")):
        macs(function, (5, 6), w=W)


def test_operators_of_other_libraries_need_a_formula():
    @torch.library.custom_op("moonshine_test::scan", mutates_args=())
    def scan(x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(-1)

    with pytest.raises(MoonshineError, match=naming("moonshine_test::scan", "register_flop_formula")):
        macs(lambda m, x: scan(x), (5, 6))
    packet = torch.ops.moonshine_test.scan
    try:
        register_flop_formula(packet)(lambda shape, **_: 2 * shape.numel())
        assert macs(lambda m, x: scan(x), (5, 6)) == 30
    finally:
        flop_registry.pop(packet, None)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Sequential(nn.BatchNorm2d(4), nn.GELU(), nn.Softmax(1), nn.LPPool2d(2, 2), nn.PixelShuffle(2)),
        nn.ChannelShuffle(2),
        nn.LocalResponseNorm(2),
        Function(lambda m, x: functional.grid_sample(x, torch.zeros(1, 8, 8, 2), align_corners=False)),
        Function(lambda m, x: torch.linalg.vector_norm(x.to(torch.float64), dim=1, keepdim=True)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_elementwise_operators_are_free(layer):
    assert cost(layer, (4, 8, 8)).macs == 0
