"""Distillation trains the student, and only the student, by the method's terms."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from moonshine import MoonshineError, distil
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.batches import batches, normalise
from moonshine.data.store import Dataset
from moonshine.distillation.losses.at import attention_transfer
from moonshine.distillation.losses.kd import knowledge_distillation
from moonshine.distillation.objective import distillation
from moonshine.distillation.outputs import attention_map
from moonshine.distillation.term import Pair
from moonshine.structures.build import build
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch
from tests.messages import names, naming

KD = {"form": "textbook", "temperature": 4.0, "alpha": 0.9}
AT = {"form": "resolution-free", "beta": 1000.0}
METHODS = {"kd": {"kd": KD}, "at": {"at": AT}, "kd+at": {"kd": KD, "at": AT}}
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
        ({"data": 7}, ["data", "int", "moonshine.data.store.Dataset", "Path"]),
        ({"method": {"kd": {**KD, "alpha": 2.0}}}, ["method.kd.alpha", "2.0"]),
        ({"training": {"epochs": 0}}, ["training.epochs", "0", "training.optimizer"]),
        ({"augment": {"flip": 1}}, ["augment.flip", "1"]),
        ({"teacher": "wrn-10-1"}, ["teacher", "str", "torch.nn"]),
    ],
)  # fmt: skip
def test_arguments_of_other_types_are_named(
    changes: dict[str, Any], message: list[object],
    stripes: Dataset, training: Training, augment: Augment, execution: Execution,
) -> None:  # fmt: skip
    student, teacher = pair()
    given = {
        "student": student, "teacher": teacher, "data": stripes, "method": METHODS["kd"],
        "training": training, "augment": augment,
    }  # fmt: skip
    with pytest.raises(MoonshineError, match=naming(*message)):
        distil(**{**given, **changes}, execution=execution)


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
    with pytest.raises(MoonshineError, match=naming("Sequential", "no place")):
        distil(
            pair()[0], plain, stripes,
            method=Method.model_validate(METHODS["at"]), training=training, augment=augment, execution=execution,
        )  # fmt: skip


RECIPE = {
    "epochs": 2, "precision": "fp32", "schedule": {"kind": "poly", "power": 1.0},
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
}  # fmt: skip


def loaded(dataset: Dataset, **settings: Any) -> DataLoader:
    """Her own loader: normalised floats and labels."""
    images = normalise(dataset.train.images, dataset.mean, dataset.std)  # type: ignore[union-attr]
    return DataLoader(TensorDataset(images, dataset.train.labels), **settings)


def test_a_loader_trains_as_a_dataset_of_the_same_batches_does(
    stripes: Dataset, execution: Execution
) -> None:
    (student, teacher), (mine, _) = pair(), pair()
    order = batches(stripes.train, batch_size=16, seed=0, epoch=0, augment=None, mean=stripes.mean, std=stripes.std,
                    device="cpu")  # fmt: skip
    once = {**RECIPE, "epochs": 1}
    found = distil(mine, teacher, list(order), method=METHODS["kd+at"], training=once, execution=execution)
    wanted = distil(
        student,
        teacher,
        stripes,
        method=METHODS["kd+at"],
        training={**once, "batch_size": 16},
        execution=execution,
    )
    ours = {key: value for key, value in wanted.rows[0].items() if not key.startswith("validation")}
    assert found.rows == [ours]
    assert all(torch.equal(own, mine.state_dict()[name]) for name, own in student.state_dict().items())


def test_a_data_loader_is_read_anew_in_every_epoch(
    stripes: Dataset, execution: Execution, caplog: pytest.LogCaptureFixture
) -> None:
    student, teacher = pair()
    loader = loaded(stripes, batch_size=16, shuffle=True)
    history = distil(student, teacher, loader, method=METHODS["kd"], training=RECIPE, execution=execution)
    assert names(caplog.text, "teacher", "first batch", "normalised")  # it was never trained
    assert [row["epoch"] for row in history.rows] == [0, 1]
    assert history.rows[1]["loss"] != history.rows[0]["loss"]
    assert "validation_loss" not in history.rows[0]


class Endless(IterableDataset):
    def __iter__(self) -> Any:
        yield from ()


@pytest.mark.parametrize(
    ("data", "changes", "said"),
    [
        (DataLoader(Endless()), {}, ["data", "DataLoader", "length", "len()"]),
        (iter(()), {}, ["data", "tuple_iterator", "length"]),
        ([], {}, ["data", "0 batches"]),
        ([torch.zeros(4, 1, 8, 8)], {}, ["batch", "Tensor", "(images, labels)"]),
        ([(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long())], {}, ["images", "uint8", "normalised"]),
        ([(torch.zeros(4, 1, 8, 8), torch.full((4,), 7))], {}, ["labels", "7", "0 to 1"]),
        (None, {"augment": {"crop_padding": 1, "flip": True}}, ["augment", "loader", "normalised"]),
        (None, {"training": {**RECIPE, "batch_size": 8}}, ["training.batch_size", "8", "16"]),
        (None, {"training": {**RECIPE, "class_weights": {"log_offset": 1.1}}}, ["training.class_weights", "loader"]),
        (None, {"training": {**RECIPE, "devices": 2}}, ["training.devices", "2", "1"]),
    ],
)  # fmt: skip
def test_mistakes_with_a_loader_are_named_before_anything_trains(
    data: Any, changes: dict[str, Any], said: list[object], stripes: Dataset, execution: Execution
) -> None:
    student, teacher = pair()
    before = copy.deepcopy(student.state_dict())
    given = {"data": loaded(stripes, batch_size=16) if data is None else data, "training": RECIPE, **changes}
    with pytest.raises(MoonshineError, match=naming(*said)):
        distil(student, teacher, method=METHODS["kd"], execution=execution, **given)
    assert all(torch.equal(own, before[name]) for name, own in student.state_dict().items())


def test_a_label_that_is_no_class_is_named_when_it_comes(stripes: Dataset, execution: Execution) -> None:
    student, teacher = pair()
    bad = [(torch.zeros(4, 1, 8, 8), torch.zeros(4).long()), (torch.zeros(4, 1, 8, 8), torch.full((4,), 2))]
    with pytest.raises(MoonshineError, match=naming("labels", "2 to 2", "0 to 1")):
        distil(student, teacher, bad, method=METHODS["kd"], training=RECIPE, execution=execution)
