"""``moonshine.objective`` in a training loop of the caller's own."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

import moonshine
from moonshine import MoonshineError
from moonshine.calls.objective import StudentLoss
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.batches import batches
from moonshine.data.store import Dataset
from moonshine.training.execution import Execution
from moonshine.training.updates.optimizer import make_optimizer
from tests.messages import naming

KD = {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}}
AT = {"at": {"form": "resolution-free", "beta": 1000.0}}
HINTS = {"hints": {"hint": "stage2", "guided": "stage2", "epochs": 1, "weight": 0.1}}
SHAPE = (1, 8, 8)


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return moonshine.build("wrn-10-1", "G(4)", 2, 1), moonshine.build("wrn-10-1", "S", 2, 1)


def batch(size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(size, *SHAPE, generator=generator), torch.arange(size) % 2


def loss_of(method: dict[str, Any], **more: Any) -> StudentLoss:
    return moonshine.objective(*pair(), method, input_shape=SHAPE, **more)


def test_a_loop_with_it_ends_where_distil_ends(stripes: Dataset, augment: Augment) -> None:
    """The same batches in the same order: the loss is the one that the pipeline minimises."""
    recipe = {"epochs": 1, "batch_size": 16, "precision": "fp32", "schedule": {"kind": "poly", "power": 1.0},
              "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False}}  # fmt: skip
    plain = Execution(torch.device("cpu"), channels_last=False)
    student, teacher = pair()
    moonshine.distil(
        student, teacher, stripes, method={**KD, **AT}, training=recipe, augment=augment, execution=plain
    )
    loss = loss_of({**KD, **AT})
    settings = Training.model_validate({**recipe, "batch_size": 16}).optimizer
    optimizer = make_optimizer(loss.parameters(), settings)  # torch.optim's classes take seconds to import
    loader = batches(stripes.train, batch_size=16, seed=0, epoch=0, augment=augment, mean=stripes.mean,
                     std=stripes.std, device="cpu")  # fmt: skip
    for images, labels in loader:
        loss(images, labels).backward()
        optimizer.step(0.1)
    loss.close()
    mine = loss.student.state_dict()
    assert all(torch.allclose(mine[name], own, atol=1e-6) for name, own in student.state_dict().items())


def test_a_call_returns_the_sum_of_the_terms_and_keeps_the_logits() -> None:
    with loss_of({**KD, **AT}) as loss:
        total = loss(*batch())
    assert set(loss.terms) == {"ce", "kd", "at"}
    assert total.requires_grad
    assert total.item() == pytest.approx(sum(value.item() for value in loss.terms.values()), rel=1e-6)
    assert loss.logits is not None
    assert loss.logits.shape == (6, 2)
    assert not loss.logits.requires_grad


def test_a_criterion_of_her_own_takes_the_place_of_the_cross_entropy() -> None:
    with loss_of(AT, criterion=nn.CrossEntropyLoss(label_smoothing=0.2)) as loss:
        images, labels = batch()
        loss(images, labels)
    assert loss.logits is not None
    assert loss.terms["ce"].item() == pytest.approx(
        F.cross_entropy(loss.logits, labels, label_smoothing=0.2).item()
    )


def test_the_teacher_stays_out_of_training_and_is_as_it_was_afterwards() -> None:
    student, teacher = pair()
    teacher.train()
    before = copy.deepcopy(teacher.state_dict())
    loss = moonshine.objective(student, teacher, AT, input_shape=SHAPE)
    loss.train()
    assert {id(own) for own in loss.parameters()} == {id(own) for own in student.parameters()}
    assert not any("teacher" in name for name in loss.state_dict())
    assert not teacher.training
    loss(*batch()).backward()
    assert all(own.grad is None for own in teacher.parameters())
    loss.close()
    assert teacher.training
    assert all(own.requires_grad for own in teacher.parameters())
    assert all(torch.equal(own, before[name]) for name, own in teacher.state_dict().items())
    hooked = [part for each in (student, teacher) for part in each.modules() if part._forward_hooks]
    assert hooked == []
    with pytest.raises(MoonshineError, match=naming("closed", "moonshine.objective")):
        loss(*batch())


def test_what_a_method_trains_besides_the_student_is_among_the_parameters() -> None:
    with loss_of({**HINTS, **KD}) as loss:
        names = {name for name, _ in loss.named_parameters() if not name.startswith("student.")}
        assert names == {"objective.terms.hints.regressor.weight", "objective.terms.hints.regressor.bias"}
        with pytest.raises(MoonshineError, match=naming("epoch", "hints", "loss.set_epoch(epoch)")):
            loss(*batch())
        loss.set_epoch(0)
        loss(*batch())
        assert set(loss.terms) == {"hints"}
        assert loss.logits is None
        loss.set_epoch(10_000)
        loss(*batch())
        assert set(loss.terms) == {"ce", "kd"}


@pytest.mark.parametrize("method", [AT, {**KD, **AT}])
def test_mixed_precision_leaves_the_loss_in_fp32(method: dict[str, Any]) -> None:
    with loss_of(method) as loss:
        exact = loss(*batch())
        with torch.autocast("cpu", torch.bfloat16):
            mixed = loss(*batch())
        mixed.backward()
        assert mixed.dtype == torch.float32
        assert mixed.item() == pytest.approx(exact.item(), rel=0.1)


def test_a_scaler_of_float16_scales_the_gradients_and_no_more() -> None:
    exact, scaled = [], []
    with loss_of({**KD, **AT}) as loss:
        loss(*batch()).backward()
        exact = [parameter.grad.clone() for parameter in loss.parameters() if parameter.grad is not None]
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    with loss_of({**KD, **AT}) as loss:
        with torch.autocast("cpu", torch.float16):
            total = loss(*batch())
        scaler.scale(total).backward()
        scaled = [parameter.grad / 16 for parameter in loss.parameters() if parameter.grad is not None]
    assert total.dtype == torch.float32
    pairs = zip(scaled, exact, strict=True)
    assert all(F.cosine_similarity(own.flatten(), other.flatten(), 0) > 0.95 for own, other in pairs)


def test_the_teacher_moves_along() -> None:
    with loss_of(AT) as loss:
        loss.to(torch.float64)
        images, labels = batch()
        assert loss(images.double(), labels).dtype == torch.float64


def test_taps_of_a_network_without_the_attribute_are_found() -> None:
    def net() -> nn.Module:
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                  nn.Conv2d(8, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)]  # fmt: skip
        return nn.Sequential(*layers)

    teacher = net()
    student = moonshine.substitute(teacher, "G(4)", input_shape=SHAPE)
    with moonshine.objective(student, teacher, AT, input_shape=SHAPE) as loss:
        assert loss(*batch()).isfinite()
        assert set(loss.terms) == {"ce", "at"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": {"kd": {**KD["kd"], "alpha": 2.0}}}, ["method.kd.alpha", "2.0", "1"]),
        ({"method": {"ka": KD["kd"]}}, ["method.ka", "kd"]),
        ({"method": "kd"}, ["method", "str", "moonshine.config.methods.Method"]),
        ({"student": nn.Conv2d(1, 2, 3)}, ["student", "(1, 2, 6, 6)", "(1, 2)"]),
        ({"student": nn.Linear(8, 2)}, ["student", "(1, 1, 8, 2)"]),
        ({"student": moonshine.build("wrn-10-1", "S", 3, 1)}, ["student", "(1, 3)", "(1, 2)", "kd+at"]),
        ({"student": moonshine.build("wrn-10-1", "S", 2, 3)}, ["student", "1x8x8"]),
        ({"student": DataParallel(nn.Linear(8, 2))}, ["student", "DataParallel"]),
        ({"teacher": "wrn"}, ["teacher", "str", "Module"]),
        ({"taps": ["stage9"]}, ["taps", "stage9", "stage3"]),
        ({"taps": "stage3"}, ["taps", "str", "list"]),
        ({"input_shape": (8, 8)}, ["input_shape", "(8, 8)", "(channels, height, width)"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_before_anything_trains(changes: dict[str, Any], said: list[object]) -> None:
    student, teacher = pair()
    given = {"student": student, "teacher": teacher, "method": {**KD, **AT}, "input_shape": SHAPE, **changes}
    with pytest.raises(MoonshineError, match=naming(*said)):
        moonshine.objective(**given)


def test_a_student_that_is_the_teacher_is_refused() -> None:
    _, teacher = pair()
    for student in (teacher, nn.Sequential(teacher)):
        with pytest.raises(MoonshineError, match=naming("student", "shares", "moonshine.substitute")):
            moonshine.objective(student, teacher, KD, input_shape=SHAPE)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), ["images", "uint8", "normalised"]),
        (torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), ["images", "(4, 3, 8, 8)", "(N, 1, height, width)"]),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]), ["labels", "0 to 2", "0 to 1"]),
        (torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, -1, 0]), ["labels", "-1 to 1", "0 to 1"]),
        (torch.zeros(4, 1, 8, 8), torch.zeros(4), ["labels", "torch.float32", "torch.int64"]),
        (torch.zeros(4, 1, 8, 8), torch.zeros(4, 2).long(), ["labels", "(4, 2)", "(4,)"]),
    ],
)  # fmt: skip
def test_a_first_batch_that_cannot_be_right_is_named(
    images: Tensor, labels: Tensor, said: list[object]
) -> None:
    with loss_of(KD) as loss, pytest.raises(MoonshineError, match=naming(*said)):
        loss(images, labels)


def test_a_teacher_that_guesses_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[5.0, -5.0]]).expand(len(images), 2) + 0 * images.mean()

    told = caplog.at_level(logging.WARNING, "moonshine")
    with told, moonshine.objective(pair()[0], Constant(), KD, input_shape=SHAPE) as loss:
        loss(*batch(40))
    assert "right on 50 % of the first batch" in caplog.text
    assert "normalised" in caplog.text


def test_a_method_may_be_the_section_itself() -> None:
    with loss_of(Method.model_validate(KD)) as loss:  # type: ignore[arg-type]
        assert loss(*batch()).isfinite()


def test_processes_wrap_the_loss(tmp_path: Path) -> None:
    """One process is enough to see that DistributedDataParallel finds the parameters and passes the batch on."""
    loss, alone = loss_of({**KD, **AT}), loss_of({**KD, **AT})
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(loss)
        wrapped(*batch()).backward()
        alone(*batch()).backward()
    finally:
        dist.destroy_process_group()
    assert wrapped.module.terms.keys() == {"ce", "kd", "at"}
    pairs = list(zip(loss.parameters(), alone.parameters(), strict=True))
    assert all(own.grad is not None and torch.allclose(own.grad, other.grad) for own, other in pairs)  # type: ignore[arg-type]
