"""Gradient-based attention transfer: input gradients in closed form, second derivatives, and where there are none."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moonshine.blocks.layers import GeneratedConv
from moonshine.config.methods import Method
from moonshine.distillation.losses.gradient_at import gradient_transfer
from moonshine.distillation.objective import Distillation, distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.structures.build import build
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch
from tests.messages import naming

CPU = torch.device("cpu")
LABELS = torch.tensor([0, 1, 2, 1])


def objective(
    student: nn.Module, teacher: nn.Module, size: int = 8, channels: int = 1, **execution: Any
) -> AbstractContextManager[Distillation]:
    pair = Pair(student, teacher, (), (channels, size, size))
    return distillation(
        pair, Method.model_validate({"gradient_at": {"beta": 2.0}}), 1, Execution(CPU, **execution)
    )


def networks(block: str = "G(4)") -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return build("wrn-10-1", block, 3, 1).train(), build("wrn-10-1", "S", 3, 1)


def images(size: int = 8) -> Tensor:
    return torch.randn(4, 1, size, size, generator=torch.Generator().manual_seed(1))


def test_input_gradients_of_linear_networks_have_a_closed_form() -> None:
    """L = -log softmax(W x)_label: J = W^T (softmax(W x) - onehot), of each image for itself."""
    student, teacher = (nn.Sequential(nn.Flatten(), nn.Linear(9, 3, bias=False)) for _ in range(2))
    inputs = images(3)
    expected = []
    for image, label in zip(inputs.flatten(1).double().numpy(), LABELS, strict=True):
        of_both = []
        for network in (student, teacher):
            weight = network[1].weight.detach().double().numpy()  # type: ignore[operator]
            scores = np.exp(weight @ image)
            of_both.append(weight.T @ (scores / scores.sum() - np.eye(3)[label]))
        expected.append(np.sqrt(((of_both[0] - of_both[1]) ** 2).sum()))
    with objective(student, teacher, 3) as loss:
        terms = loss(student, Batch(inputs, LABELS, 0, 0))[1]
    assert terms["gradient_at"].item() == pytest.approx(2 * float(np.mean(expected)), rel=1e-5)
    assert list(terms) == ["ce", "gradient_at"]


# sums with shared inputs, generated weights, and two of the papers' blocks
@pytest.mark.parametrize("block", ["G(4)", "BG(2,M)", "FIRE(4)", "TT(4)", "ACDC(2)", "PRED(3)"])
def test_its_gradient_is_right_through_batch_norm_in_training_mode(
    block: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GeneratedConv.materialise, "__defaults__", (torch.float64,))
    student, teacher = networks(block)
    with objective(student, teacher) as loss:
        student.double()
        teacher.double()
        batch = Batch(images().double(), LABELS, 0, 0)
        loss(student, batch)[1]["gradient_at"].backward()
        weights = [own for own in student.parameters() if own.grad is not None]
        directions = [torch.randn_like(own) for own in weights]
        gradients = [own.grad for own in weights if own.grad is not None]
        slope = sum((own * way).sum().item() for own, way in zip(gradients, directions, strict=True))
        values = []
        for step in (2e-9, -4e-9):  # so small that no ReLU changes sides
            with torch.no_grad():
                for own, way in zip(weights, directions, strict=True):
                    own.add_(way, alpha=step)
            values.append(loss(student, batch)[1]["gradient_at"].item())
    assert slope == pytest.approx((values[0] - values[1]) / 4e-9, rel=1e-3, abs=1e-4)
    assert not any(own.grad is not None for own in teacher.parameters())


def test_it_is_computed_in_fp32_whatever_the_precision_and_the_layout() -> None:
    found = []
    for settings in ({}, {"dtype": torch.bfloat16}, {"channels_last": False}):
        student, teacher = networks()
        with objective(student, teacher, **settings) as loss:
            with torch.autocast("cpu", torch.bfloat16, enabled="dtype" in settings):
                logits, terms = loss(student, Batch(images(), LABELS, 0, 0))
            sum(terms.values(), torch.zeros(())).backward()
        assert logits is not None
        gradient = torch.cat([own.grad.flatten() for own in student.parameters() if own.grad is not None])
        assert all(each.dtype == torch.float32 for each in (logits, gradient, *terms.values()))
        found.append((terms["gradient_at"], gradient))
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0], found[2], rtol=1e-3, atol=1e-4)


def test_equal_gradients_cost_nothing_and_pull_nowhere() -> None:
    gradient = torch.randn(4, 1, 3, 3, requires_grad=True)
    loss = gradient_transfer(gradient, gradient.detach().clone())
    loss.backward()
    assert loss.item() == 0
    assert gradient.grad is not None
    assert not gradient.grad.any()


class WritesIntoItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.relu_().flatten(1))


def test_a_network_may_write_into_its_input() -> None:
    student, inputs = WritesIntoItsInput(), images(3)
    before = inputs.clone()
    with objective(student, WritesIntoItsInput(), 3) as loss:
        assert loss(student, Batch(inputs, LABELS, 0, 0))[1]["gradient_at"] > 0
    assert torch.equal(inputs, before)


def test_a_compiled_network_has_no_second_derivative() -> None:
    with (
        pytest.raises(MoonshineError, match=naming("compile", "true", "gradient_at", "false")),
        objective(*networks(), compile=True),
    ):
        pass


def test_a_label_map_is_refused() -> None:
    student, teacher = networks()
    with (
        objective(student, teacher) as loss,
        pytest.raises(MoonshineError, match=naming("input gradients", "(4, 8, 8)", "one per image")),
    ):
        loss(student, Batch(images(), torch.zeros(4, 8, 8, dtype=torch.long), 0, 0))
