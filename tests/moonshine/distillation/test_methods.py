"""Every term alone and all of them together, on a classifier from torchvision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moonshine import distil
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch

TERMS: dict[str, dict[str, Any]] = {
    "kd": {"form": "textbook", "temperature": 2.0, "alpha": 0.5, "standardise": True},
    "logits": {"weight": 0.1, "labels": 0.5},
    "dkd": {"temperature": 4.0, "alpha": 1.0, "beta": 2.0, "warmup": 0},
    "dist": {"temperature": 1.0, "beta": 1.0, "gamma": 1.0},
    "at": {"form": "paper", "beta": 1.0, "map": "max", "p": 1},
    "gradient_at": {"beta": 0.1},
}
TAPS = ("1.conv1", "1.maxpool")
Networks = tuple[nn.Module, nn.Module]


def pair() -> Networks:
    """A small ShuffleNet: grouped convolutions, batch norm, ReLU in place, max pooling, a shuffle of channels."""
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    widths = ([4, 8, 8, 8, 8], [4, 8, 16, 16, 16])
    student, teacher = (
        nn.Sequential(nn.Conv2d(1, 3, 1), models.ShuffleNetV2([1, 1, 1], width, num_classes=2))
        for width in widths
    )
    return student, teacher


def loss_of(terms: dict[str, Any], execution: Execution, epoch: int = 0) -> dict[str, Tensor]:
    student, teacher = pair()
    images, labels = torch.randn(6, 1, 16, 16), torch.tensor([0, 1, 0, 1, 1, 0])
    method = Method.model_validate(terms)
    with distillation(Pair(student, teacher, TAPS, (1, 16, 16)), method, 4, execution) as objective:
        return dict(objective(student, Batch(images, labels, epoch, 0))[1])


@pytest.mark.parametrize("names", [*([name] for name in TERMS), list(TERMS)], ids="+".join)
def test_each_term_trains_a_classifier_of_torchvision(
    names: list[str], stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    student, teacher = pair()
    before = [*student.state_dict()]
    weights = torch.cat([tensor.flatten() for tensor in student.parameters()]).detach().clone()
    history = distil(
        student, teacher, stripes, taps=TAPS,
        method=Method.model_validate({name: TERMS[name] for name in names}),
        training=training.model_copy(update={"epochs": 1}), augment=augment, execution=execution,
    )  # fmt: skip
    (row,) = history.rows
    assert history.status == "completed"
    assert list(row)[3:-3] == ["ce", *names]
    assert row["loss"] == pytest.approx(sum(row[name] or math.nan for name in ("ce", *names)), rel=1e-5)
    assert [*student.state_dict()] == before
    assert not torch.equal(weights, torch.cat([tensor.flatten() for tensor in student.parameters()]))


def test_shares_of_the_labels_multiply(execution: Execution) -> None:
    alone = loss_of({"at": TERMS["at"]}, execution)["ce"]
    torch.testing.assert_close(loss_of({"logits": TERMS["logits"]}, execution)["ce"], 0.5 * alone)
    both = loss_of({"kd": TERMS["kd"], "logits": TERMS["logits"]}, execution)
    torch.testing.assert_close(both["ce"], 0.25 * alone)
    without = loss_of({"logits": {**TERMS["logits"], "labels": 0.0}}, execution)
    assert without["ce"] == 0


def test_dkd_rises_over_its_warm_up(execution: Execution) -> None:
    whole = loss_of({"dkd": TERMS["dkd"]}, execution)["dkd"]
    for epoch, share in ((0, 1 / 3), (1, 2 / 3), (2, 1), (3, 1)):
        found = loss_of({"dkd": {**TERMS["dkd"], "warmup": 3}}, execution, epoch)["dkd"]
        torch.testing.assert_close(found, share * whole)
