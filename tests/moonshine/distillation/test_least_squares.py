"""1x1 convolutions by least squares: against numpy's solution, with bias, stride, penalties and useless features."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from moonshine.distillation.least_squares import RIDGES, Moments, is_solvable, moments, solve


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_solution_is_numpys(bias, stride):
    conv = nn.Conv2d(5, 3, 1, stride=stride, bias=bias)
    maps, wished = noise(8, 5, 6, 6, seed=1), noise(8, 3, 6 // stride, 6 // stride, seed=2)
    found = moments(conv, [(maps[:3], wished[:3]), (maps[3:], wished[3:])])
    solve(conv, found, found)
    rows = maps[:, :, ::stride, ::stride].permute(0, 2, 3, 1).reshape(-1, 5).double().numpy()
    if bias:
        rows = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    expected = np.linalg.lstsq(rows, wished.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy(), rcond=None)[
        0
    ]
    np.testing.assert_allclose(conv.weight.detach()[:, :, 0, 0].T, expected[:5], atol=1e-5)
    if bias:
        np.testing.assert_allclose(conv.get_parameter("bias").detach(), expected[5], atol=1e-5)


def test_the_loss_is_that_of_the_convolution():
    conv = nn.Conv2d(4, 2, 1)
    maps, wished = noise(3, 4, 5, 5, seed=1), noise(3, 2, 5, 5, seed=2)
    weight = torch.cat([conv.weight[:, :, 0, 0], conv.get_parameter("bias")[:, None]], 1).T.detach().double()
    expected = (conv(maps) - wished).square().sum() - wished.square().sum()
    assert moments(conv, [(maps, wished)]).loss(weight) == pytest.approx(expected.item(), rel=1e-5)


def test_few_examples_get_a_penalty_that_holds_elsewhere():
    """As many features as examples, noise in the targets: the exact solution fits the noise."""
    true = noise(2, 24, seed=1)
    maps = noise(200, 24, 1, 1, seed=2)
    wished = torch.einsum("oc,nchw->nohw", true, maps) + 3 * noise(200, 2, 1, 1, seed=3)
    conv, exact = nn.Conv2d(24, 2, 1, bias=False), nn.Conv2d(24, 2, 1, bias=False)
    few = moments(conv, [(maps[:26], wished[:26])])
    others = moments(conv, [(maps[26:], wished[26:])])
    solve(conv, few, others)
    solve(exact, few, few)
    errors = [(net(maps[26:]) - wished[26:]).square().mean().item() for net in (conv, exact)]
    assert errors[0] < 0.7 * errors[1]


def test_dead_features_get_no_weight():
    conv = nn.Conv2d(3, 2, 1)
    maps = noise(4, 3, 4, 4)
    maps[:, 1] = 0
    found = moments(conv, [(maps, noise(4, 2, 4, 4, seed=1))])
    solve(conv, found, found)
    assert conv.weight.isfinite().all()
    assert conv.weight[:, 1].abs().max() == 0
    nothing = moments(conv, [(torch.zeros(4, 3, 4, 4), torch.ones(4, 2, 4, 4))])
    solve(conv, nothing, nothing)
    assert conv.weight.abs().max() == 0
    torch.testing.assert_close(conv.get_parameter("bias").detach(), torch.ones(2))


def test_what_is_not_finite_is_the_worst():
    assert Moments(torch.full((2, 2), math.nan), torch.zeros(2, 1)).loss(torch.ones(2, 1)) == math.inf
    assert len(RIDGES) == len(set(RIDGES))


def test_which_convolutions_are_linear_maps_of_pixels():
    assert is_solvable(nn.Conv2d(4, 6, 1, stride=2))
    assert not is_solvable(nn.Conv2d(4, 6, 3, padding=1))
    assert not is_solvable(nn.Conv2d(4, 6, 1, groups=2))
    assert not is_solvable(nn.Conv2d(4, 6, 1, padding=1))
