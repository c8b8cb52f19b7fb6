"""Distillation trains the student, and only the student, by the method's terms."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from moonshine import MoonshineError, distil
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.distillation.losses.at import attention_transfer
from moonshine.distillation.losses.kd import knowledge_distillation
from moonshine.distillation.objective import distillation
from moonshine.distillation.outputs import attention_map
from moonshine.distillation.term import Pair
from moonshine.structures.build import build
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch
from tests.messages import naming

KD = {"form": "textbook", "temperature": 4.0, "alpha": 0.9}
AT = {"form": "resolution-free", "beta": 1000.0}
METHODS = {"kd": {"kd": KD}, "at": {"at": AT}, "kd+at": {"kd": KD, "at": AT}}
LOADER: Any = DataLoader([0])  # type: ignore[arg-type]
TERMS = {"kd": {"ce", "kd"}, "at": {"ce", "at"}, "kd+at": {"ce", "kd", "at"}}


def pair() -> tuple[Any, Any]:
    torch.manual_seed(0)
    return build("wrn-10-1", "G(4)", 2, 1), build("wrn-10-1", "S", 2, 1)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_its_terms_and_leaves_the_teacher_alone(
    name: str, stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    student, teacher = pair()
    before = copy.deepcopy(teacher.state_dict())
    teacher.head.eval()
    teacher.stem.requires_grad_(False)
    told = [(part.training, tensor.requires_grad, tensor.stride())
            for part in teacher.modules() for tensor in part.parameters(recurse=False)]  # fmt: skip
    once = training.model_copy(update={"epochs": 1})
    history = distil(
        student, teacher, stripes,
        method=Method.model_validate(METHODS[name]), training=once, augment=augment, execution=execution,
    )  # fmt: skip
    row = history.rows[0]
    assert {key for key in ("ce", "kd", "at") if key in row} == TERMS[name]
    assert row["loss"] == pytest.approx(sum(row[key] or 0 for key in TERMS[name]), rel=1e-5)
    assert told == [(part.training, tensor.requires_grad, tensor.stride())
                    for part in teacher.modules() for tensor in part.parameters(recurse=False)]  # fmt: skip
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_the_loss_is_that_of_the_pure_functions(execution: Execution) -> None:
    student, teacher = pair()
    images, labels = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 0, 1, 1, 0])
    method = Method.model_validate(METHODS["kd+at"])
    student.eval()
    teacher.eval()
    with distillation(Pair(student, teacher, ("stage1", "stage3"), (1, 8, 8)), method, 1, execution) as loss:
        logits, terms = loss(student, Batch(images, labels, 0, 0))

    def tapped(network: nn.Module) -> list[torch.Tensor]:
        first = network.get_submodule("stage1")(network.get_submodule("stem")(images))
        last = network.get_submodule("stage3")(network.get_submodule("stage2")(first))
        return [attention_map(first), attention_map(last)]

    def in_half(values: torch.Tensor) -> torch.Tensor:
        return values.half().float()

    with torch.no_grad():
        expected = {
            "ce": 0.1 * F.cross_entropy(logits, labels),
            "kd": knowledge_distillation(logits, in_half(teacher(images)), labels, **KD),  # type: ignore[arg-type]
            "at": attention_transfer(tapped(student), list(map(in_half, tapped(teacher))), **AT),  # type: ignore[arg-type]
        }
    assert {key: pytest.approx(value.item(), rel=1e-4) for key, value in expected.items()} == {
        key: value.item() for key, value in terms.items()
    }


def test_hooks_are_gone_afterwards(execution: Execution) -> None:
    student, teacher = pair()
    both = Pair(student, teacher, ("stage1",), (1, 8, 8))
    with distillation(both, Method.model_validate(METHODS["at"]), 1, execution):
        pass
    assert [name for network in (*pair(), student, teacher) for name, part in network.named_modules()
            if part._forward_hooks] == []  # fmt: skip


def test_a_tap_that_does_not_exist_is_named_before_training(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    student, teacher = pair()
    with pytest.raises(MoonshineError, match="stage4"):
        distil(
            student, teacher, stripes, taps=["stage4"],
            method=Method.model_validate(METHODS["at"]), training=training, augment=augment, execution=execution,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": LOADER}, ["data", "DataLoader", "moonshine.data.store.Dataset", "Path"]),
        ({"method": {"kd": KD}}, ["method", "dict", "moonshine.config.methods.Method"]),
        ({"teacher": "wrn-10-1"}, ["teacher", "str", "torch.nn"]),
    ],
)  # fmt: skip
def test_arguments_of_other_types_are_named(
    changes: dict[str, Any], message: list[object],
    stripes: Dataset, training: Training, augment: Augment, execution: Execution,
) -> None:  # fmt: skip
    student, teacher = pair()
    given = {
        "student": student,
        "teacher": teacher,
        "data": stripes,
        "method": Method.model_validate(METHODS["kd"]),
    }
    with pytest.raises(MoonshineError, match=naming(*message)):
        distil(**{**given, **changes}, training=training, augment=augment, execution=execution)


@pytest.mark.parametrize("whose", ["teacher", "student"])
def test_probabilities_are_refused_where_logits_are_due(
    whose: str, stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    student, teacher = pair()
    networks = {"student": student, "teacher": teacher}
    networks[whose] = nn.Sequential(networks[whose], nn.Softmax(1))
    with pytest.raises(MoonshineError, match=naming(whose, "probabilities", "2 classes")):
        distil(
            **networks, data=stripes,
            method=Method.model_validate(METHODS["kd"]), training=training, augment=augment, execution=execution,
        )  # fmt: skip


def test_a_teacher_without_taps_needs_them_given(
    stripes: Dataset, training: Training, augment: Augment, execution: Execution
) -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(MoonshineError, match="taps: none given"):
        distil(
            pair()[0], plain, stripes,
            method=Method.model_validate(METHODS["at"]), training=training, augment=augment, execution=execution,
        )  # fmt: skip
