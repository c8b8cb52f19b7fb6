"""Hints: the equation, the two stages, exact continuation in both, and layers that do not go together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moonshine import MoonshineError, distil
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.distillation.losses.hints import hint_loss
from moonshine.distillation.objective import distillation, phases_of
from moonshine.distillation.term import Pair
from moonshine.structures.build import build
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.execution import Execution
from moonshine.training.history import SILENT, History, Observer
from moonshine.training.objective import Batch
from tests.messages import naming
from tests.moonshine.training.test_train import Killed, KilledAt

HINTS = {"hint": "stage2", "guided": "stage2", "epochs": 2, "weight": 0.5}
KD = {"form": "textbook", "temperature": 4.0, "alpha": 0.9}


def networks(student: str = "wrn-10-1") -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return build(student, "G(4)", 2, 1), build("wrn-10-1", "S", 2, 1)


def method(**changes: Any) -> Method:
    return Method.model_validate({"hints": {**HINTS, **changes}, "kd": KD})


def test_the_loss_is_that_of_the_paper() -> None:
    predicted, hint = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64)
    expected = sum(
        0.5 * sum((hint[n, c, y, x] - predicted[n, c, y, x]) ** 2 for c in range(4))
        for n in range(3) for y in range(5) for x in range(6)
    ) / (3 * 5 * 6)  # fmt: skip
    predicted.requires_grad_()
    hint.requires_grad_()
    loss = hint_loss(predicted, hint)
    assert loss.item() == pytest.approx(float(expected), rel=1e-12)
    loss.backward()
    torch.testing.assert_close(predicted.grad, (predicted - hint).detach() / (3 * 5 * 6))
    assert hint.grad is None


def test_the_first_epochs_train_the_student_up_to_the_guided_layer_and_the_others_all_of_it(
    execution: Execution,
) -> None:
    student, teacher = networks()
    student.train()
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1, 0])
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with distillation(Pair(student, teacher, (), (1, 8, 8)), method(), 3, execution) as objective:
        logits, terms = objective(student, Batch(images, labels, 1, 0))
        sum(terms.values(), torch.zeros(())).backward()
        assert logits is None
        assert list(terms) == ["hints"]
        behind = ("stage3", "norm", "head")
        trained = {name for name, parameter in student.named_parameters() if parameter.grad is not None}
        assert trained == {name for name, _ in student.named_parameters() if not name.startswith(behind)}
        changed = {
            name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])
        }
        assert changed  # batch norms of the first stages
        assert not any(name.startswith(behind) for name in changed)
        assert all(parameter.grad is not None for parameter in objective.parameters())
        assert objective.columns == ("ce", "hints", "kd")
        logits, terms = objective(student, Batch(images, labels, 2, 0))
        assert logits is not None
        assert list(terms) == ["ce", "kd"]


def train(
    student: nn.Module, teacher: nn.Module, data: Dataset, training: Training, augment: Augment, execution: Execution,
    checkpoints: Checkpoints | None = None, observer: Observer = SILENT,
) -> History:  # fmt: skip
    longer = training.model_copy(update={"epochs": 4})
    return distil(
        student, teacher, data, method=method(), training=longer, augment=augment, execution=execution, seed=3,
        checkpoints=checkpoints, observer=observer,
    )  # fmt: skip


def test_the_student_learns_and_keeps_nothing_of_the_regressor(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    student, teacher = networks()
    before = [*student.state_dict()]
    history = train(student, teacher, stripes, training, augment, execution)
    assert history.status == "completed"
    assert [*student.state_dict()] == before
    assert [[row[name] is None for name in ("hints", "ce", "kd", "train_error_pct")] for row in history.rows] == [
        [False, True, True, True], [False, True, True, True], [True, False, False, False], [True, False, False, False],
    ]  # fmt: skip
    assert (history.rows[1]["hints"] or 0) < (history.rows[0]["hints"] or 0)


# in the first stage, at its end before its checkpoint, at the start of the second, and in it
@pytest.mark.parametrize("moment", [(1, 2), (1, None), (2, 1), (3, 2)])
def test_a_run_killed_in_either_stage_ends_with_the_same_bits(
    moment: tuple[int, int | None], tmp_path: Path,
    stripes: Dataset, training: Training, augment: Augment, execution: Execution,
) -> None:  # fmt: skip
    run = partial(train, data=stripes, training=training, augment=augment, execution=execution)
    whole, teacher = networks()
    expected = run(whole, teacher)
    checkpoints = Checkpoints(tmp_path, "these settings")
    with pytest.raises(Killed):
        run(networks()[0], teacher, checkpoints=checkpoints, observer=KilledAt(*moment))
    torch.manual_seed(7)  # what is initialised anew must come from the checkpoint
    continued = build("wrn-10-1", "G(4)", 2, 1)
    found = run(continued, teacher, checkpoints=checkpoints)
    assert found.rows == expected.rows
    assert found.resumed == 1
    other = whole.state_dict()
    assert all(torch.equal(tensor, other[name]) for name, tensor in continued.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"hint": "stage9"}, ["hints.hint", "stage9", "teacher", "stage1 (8x8)"]),
        ({"guided": "head"}, ["hints.guided", "head", "student", "stage3 (2x2)"]),
        ({"guided": "stage1"}, ["hints.guided", "stage1", "8x8", "stage2", "4x4", "same resolution"]),
        ({"epochs": 3}, ["hints", "3 epochs", "up to 2"]),
    ],
)
def test_layers_that_do_not_go_together_are_refused(changes: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(MoonshineError, match=naming(*facts)):
        phases_of(Pair(*networks(), (), (1, 8, 8)), method(**changes), 3)


def test_the_regressor_widens_and_depends_on_the_seed_alone() -> None:
    def regressor(seed: int) -> Tensor:
        torch.rand(3)
        pretraining = phases_of(Pair(*networks("wrn-10-2"), (), (1, 8, 8)), method(), 3, seed)[0]
        return next(pretraining.terms["hints"].parameters())

    first = regressor(1)
    assert first.shape == (32, 64, 1, 1)
    assert first.abs().max() <= 0.05
    assert torch.equal(first, regressor(1))
    assert not torch.equal(first, regressor(2))
