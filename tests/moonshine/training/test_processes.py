"""Several processes train one network as one process would that forwards their shards in turn."""

from __future__ import annotations

import copy
import multiprocessing
import os
import shutil
import socket
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, start_processes

from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.batches import batches
from moonshine.data.description import Description
from moonshine.data.mixing import draw_mixes
from moonshine.data.store import Dataset, load_dataset
from moonshine.distillation.objective import Distillation, distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.structures.build import build
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.execution import Execution
from moonshine.training.history import SILENT, History, HistoryRow, Observer
from moonshine.training.objective import Batch, Objective, Together
from moonshine.training.processes import SINGLE_PROCESS, Processes, launched, synchronised, together
from moonshine.training.train import train
from moonshine.training.updates.averaging import Average
from moonshine.training.updates.optimizer import make_optimizer
from moonshine.training.updates.schedules import learning_rate
from tests.messages import naming

RECIPE: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 10,  # 24 images: the last batch has four
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
    "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.01},
    "precision": "fp32",
    "ema": 0.9,
}
DIST = {"temperature": 1.0, "beta": 0.5, "gamma": 0.5}
AT = {"at": {"form": "paper", "beta": 1.0}, "gradient_at": {"beta": 0.1}, "dist": DIST}
HINTS = {"hints": {"hint": "stage2", "guided": "stage2", "epochs": 1, "weight": 0.1}}
"""In the first epoch parameters behind stage2 have no gradient, and later the regressor has none."""
PLAIN = Augment(crop_padding=1, flip=True)
MIXED = Augment(crop_padding=1, flip=True, mixup=0.4, cutmix=1.0)
EXECUTION = Execution(torch.device("cpu"), channels_last=False)


def objective(
    student: nn.Module, teacher: nn.Module, method: dict[str, Any]
) -> AbstractContextManager[Distillation]:
    taps: tuple[str, ...] = teacher.taps  # type: ignore[assignment]
    pair = Pair(student, teacher, taps, (1, 8, 8))
    return distillation(pair, Method.model_validate(method), RECIPE["epochs"], EXECUTION)


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    teacher = build("wrn-10-1", "S", num_classes=2, in_channels=1)
    return build("wrn-10-1", "G(4)", num_classes=2, in_channels=1), teacher


def augment(method: dict[str, Any]) -> Augment:
    return PLAIN if "gradient_at" in method else MIXED


Ended = list[tuple[dict[str, Any], list[HistoryRow], int]]
"""What each process ended with: weights, rows, resumptions."""


class Dies(Observer):
    """Ends its process in the second epoch."""

    def epoch(self, row: HistoryRow) -> None:
        if row["epoch"] == 1:
            os._exit(1)


def worker(rank: int, count: int, port: int, folder: str, method: dict[str, Any], dies: bool) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(count), "TORCHELASTIC_RUN_ID": "test"}
    processes = launched()
    student, teacher = networks()
    with (
        together(processes, torch.device("cpu")),
        objective(student, teacher, method) as loss,
    ):
        history = train(
            student, loss, load_dataset(Path(folder) / "data"), Training.model_validate(RECIPE), augment(method),
            EXECUTION, seed=0, checkpoints=Checkpoints(Path(folder) / "work", "same"), processes=processes,
            observer=Dies() if dies and rank == 0 else SILENT,
        )  # fmt: skip
    torch.save((student.state_dict(), history.rows, history.resumed), Path(folder) / f"{rank}.pt")


def run(folder: Path, count: int, method: dict[str, Any], dies: bool = False) -> Ended:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forks of a process that has imported torch, with what data parallelism imports of it, and done nothing else
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    start_processes(worker, (count, port, str(folder), method, dies), count, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(count)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from moonshine.data.store import write_dataset

    where = tmp_path_factory.mktemp("together")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(24) % 2
    images = torch.randint(0, 100, (24, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images[labels == 1, :, ::2] += 100
    parts = {"images": images, "labels": labels}
    tensors = {f"{split}_{name}": part.clone() for split in ("train", "test") for name, part in parts.items()}
    description = Description(
        name="stripes",
        counts={"train": 24, "validation": 0, "test": 24},
        channels=1,
        height=8,
        width=8,
        num_classes=2,
        class_names=("a", "b"),
        mean=(0.4,),
        std=(0.2,),
        source="generated",
    )
    write_dataset(where / "data", tensors, description, "0" * 64)
    return where


def copied(folder: Path, to: Path) -> Path:
    """A folder with the same data."""
    to.mkdir()
    (to / "data").symlink_to(folder / "data")
    return to


@pytest.fixture(scope="module")
def two(folder: Path) -> Ended:
    return run(copied(folder, folder / "two"), 2, HINTS)


def in_turn(dataset: Dataset, count: int, method: dict[str, Any]) -> tuple[nn.Module, list[float]]:
    """One process: the shards of each batch forwarded separately, their gradients averaged; losses by epoch."""
    training = Training.model_validate(RECIPE)
    student, teacher = networks()
    shared: dict[str, Any] = {"batch_size": 10, "seed": 0, "augment": augment(method), "device": "cpu"}
    shared |= {"mean": dataset.mean, "std": dataset.std, "with_previous": bool(augment(method).mixes)}
    losses = []
    with objective(student, teacher, method) as loss:
        optimizer = make_optimizer(Together(student, loss).parameters(), training.optimizer)
        average = Average(student, RECIPE["ema"])
        for epoch in range(3):
            student.train()
            sums = 0.0
            shards = [
                batches(dataset.train, epoch=epoch, shard=(rank, count), **shared) for rank in range(count)
            ]
            mixes = draw_mixes(augment(method), 3, (8, 8), 0, epoch)
            for step, loaded in enumerate(zip(*shards, strict=True)):
                parts = [mixes[step].of(*part) if mixes else (*part, None) for part in loaded]
                size = sum(len(labels) for _, labels, _ in parts)
                for images, labels, mixed in parts:
                    _, terms = loss(student, Batch(images, labels, epoch, step, mixed))
                    total = sum(terms.values()) * len(labels) / size
                    total.backward()
                    sums += total.item() * size
                optimizer.step(learning_rate(training, epoch, step, 3))
                average.update(epoch * 3 + step)
            losses.append(sums / 24)
    average.apply()
    return student, losses


@pytest.mark.parametrize("method", [AT, HINTS], ids=["at", "hints"])
def test_two_processes_are_one_that_forwards_their_shards_in_turn(
    method: dict[str, Any], folder: Path, two: Ended, tmp_path: Path
) -> None:
    """To 1e-4: sums of fp32 are added in another order, and nine steps carry that on."""
    if method is AT:
        two = run(copied(folder, tmp_path / "at"), 2, AT)
    reference, losses = in_turn(load_dataset(folder / "data"), 2, method)
    (first, rows, _), (second, other_rows, _) = two
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(first[name], parameter.detach(), rtol=1e-4, atol=1e-5)
        assert torch.equal(first[name], second[name])
    assert rows == other_rows
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)


def test_one_process_sees_other_batch_statistics(folder: Path, two: Ended) -> None:
    """So the test above would notice processes that did not train on their own shards."""
    whole, _ = in_turn(load_dataset(folder / "data"), 1, HINTS)
    assert not torch.allclose(two[0][0]["head.weight"], whole.state_dict()["head.weight"], rtol=1e-3)


@pytest.fixture(scope="module")
def interrupted(folder: Path) -> Path:
    """The checkpoints of two processes, the first of which died in the second epoch."""
    where = copied(folder, folder / "cut short")
    with pytest.raises(ProcessExitedException):
        run(where, 2, HINTS, dies=True)
    return where


def test_an_interrupted_run_continues_to_the_same_bits(interrupted: Path, two: Ended, tmp_path: Path) -> None:
    continued = run(shutil.copytree(interrupted, tmp_path / "copy"), 2, HINTS)
    assert continued[0][2] == 1
    assert all(torch.equal(tensor, two[0][0][name]) for name, tensor in continued[0][0].items())


def test_another_number_of_processes_continues_and_says_so(
    interrupted: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = alone(shutil.copytree(interrupted, tmp_path / "copy"))
    assert (history.resumed, len(history.rows)) == (1, 3)
    assert "not bit for bit" in caplog.text


def alone(folder: Path) -> History:
    student, teacher = networks()
    with objective(student, teacher, HINTS) as loss:
        return train(
            copy.deepcopy(student), loss, load_dataset(folder / "data"), Training.model_validate(RECIPE), MIXED,
            EXECUTION, seed=0, checkpoints=Checkpoints(folder / "work", "same"),
        )  # fmt: skip


def test_the_last_batch_must_have_an_image_for_every_process(folder: Path) -> None:
    student, _ = networks()
    recipe = Training.model_validate({**RECIPE, "batch_size": 23})
    with pytest.raises(MoonshineError, match=naming("devices", "2", "last batch", "24 images")):
        train(
            student,
            Objective(),
            load_dataset(folder / "data"),
            recipe,
            MIXED,
            EXECUTION,
            seed=0,
            processes=Processes(0, 2),
        )


def test_synchronised_batch_norms_keep_names_and_values() -> None:
    network = networks()[0]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    synchronised(network)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in norms)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert before.keys() == network.state_dict().keys()


def test_a_batch_norm_that_does_more_is_not_synchronised() -> None:
    class WithActivation(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    network = nn.Sequential(nn.Conv2d(1, 2, 1), WithActivation(2))
    with pytest.raises(MoonshineError, match=naming("sync_batch_norm", "WithActivation", "false")):
        synchronised(network)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, SINGLE_PROCESS),
        ({"RANK": "1", "WORLD_SIZE": "2"}, SINGLE_PROCESS),  # a SLURM job, say
        ({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2"}, Processes(1, 2)),
    ],
)
def test_only_torchrun_makes_company(environment: dict[str, str], expected: Processes) -> None:
    assert launched(environment) == expected
