"""A store of the teacher's outputs saves passes of the teacher and changes no bit of a training."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.data.store import Dataset
from moonshine.distillation.objective import distillation
from moonshine.distillation.outputs import MapOf, Needs, Outputs, rounded
from moonshine.distillation.teacher_store.store import Schedule, Store
from moonshine.distillation.term import Pair
from moonshine.structures.build import build
from moonshine.training.checkpoint import Checkpoints
from moonshine.training.execution import Execution
from moonshine.training.history import Observer
from moonshine.training.objective import Batch
from moonshine.training.train import train

TAPS = ("stage1", "stage3")
MAPS = (*map(MapOf, TAPS), MapOf("stage1", "max", 1.0))
KEPT = Needs(logits=True, maps=MAPS)
METHODS = {
    "kd": {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}},
    "at": {"at": {"form": "resolution-free", "beta": 1000.0}},
}
GRADIENT = {"gradient": {"gradient_at": {"beta": 1.0}, **METHODS["kd"], **METHODS["at"]}}
EPOCHS, STEPS = 3, 3
EVERYTHING = 10**9


def open_store(folder: Path, bound: int = EVERYTHING, address: str = "address", wanted: Any = ()) -> Store:
    return Store(folder, bound, Schedule(address, "execution", KEPT, EPOCHS, STEPS), wanted)


class Killed(BaseException):
    pass


class KilledIn(Observer):
    """Ends the process, as far as the training can tell, after a step of an epoch."""

    def __init__(self, epoch: int) -> None:
        self._left = epoch * STEPS + 2

    def batch(self, done: int, total: int) -> None:
        self._left -= 1
        if not self._left:
            raise Killed


@pytest.fixture
def trained(stripes: Dataset, training: Training, augment: Augment, execution: Execution) -> Any:
    """Trains a student; gives its weights, as one tensor."""

    def run(
        used: Store | None, method: str = "at", block: str = "G(4)", mixup: float | None = None, **more: Any
    ) -> Tensor:
        torch.manual_seed(0)
        teacher, student = build("wrn-10-1", "S", 2, 1), build("wrn-10-1", block, 2, 1)
        pair = Pair(student, teacher, TAPS, (1, 8, 8))
        loss = Method.model_validate((METHODS | GRADIENT)[method])
        with distillation(pair, loss, EPOCHS, execution, store=used) as objective:
            mixed = augment.model_copy(update={"mixup": mixup})
            train(student, objective, stripes, training, mixed, execution, seed=0, **more)
        return torch.cat([weights.detach().flatten() for weights in student.parameters()])

    return run


def test_weights_have_the_same_bits_with_and_without_a_store(trained: Any, tmp_path: Path) -> None:
    plain = {method: trained(None, method) for method in METHODS}
    first = open_store(tmp_path)
    assert torch.equal(trained(first, "kd"), plain["kd"])
    assert first.counts == {"read": 0, "computed": EPOCHS * STEPS, "bytes": 0}
    for method in METHODS:  # one pass serves both
        full = open_store(tmp_path)
        assert torch.equal(trained(full, method), plain[method])
        assert (full.counts["read"], full.counts["computed"]) == (EPOCHS * STEPS, 0)
        assert full.counts["bytes"] > 0


def test_mixed_images_are_the_same_for_every_student(trained: Any, tmp_path: Path) -> None:
    plain = trained(None, mixup=0.4)
    trained(open_store(tmp_path), block="B(2)", mixup=0.4)
    full = open_store(tmp_path)
    assert torch.equal(trained(full, mixup=0.4), plain)
    assert full.counts["read"] == EPOCHS * STEPS
    assert not torch.equal(plain, trained(None))


@pytest.mark.parametrize("of_three", [0, 1, 2])
def test_a_full_store_takes_no_more_and_serves_what_it_has(
    of_three: int, trained: Any, tmp_path: Path
) -> None:
    plain, whole = trained(None), tmp_path / "whole"
    trained(open_store(whole))
    bound = (of_three + 0.5) * max(path.stat().st_size for path in whole.rglob("epoch-*"))
    for read in (0, of_three):
        partial = open_store(tmp_path / "partial", int(bound))
        assert torch.equal(trained(partial), plain)
        assert partial.counts["read"] == read * STEPS
        assert sum(path.stat().st_size for path in (tmp_path / "partial").rglob("epoch-*")) <= bound


def test_what_nobody_wants_makes_room(trained: Any, tmp_path: Path) -> None:
    trained(open_store(tmp_path, address="old"))
    bound = int(1.2 * sum(path.stat().st_size for path in tmp_path.rglob("epoch-*")))
    trained(open_store(tmp_path, bound, address="new", wanted=["old"]))
    assert os.listdir(tmp_path / "old" / "execution")
    assert not any(tmp_path.glob("new/execution/*"))
    trained(open_store(tmp_path, bound, address="new"))
    assert not (tmp_path / "old").exists()
    assert len(os.listdir(tmp_path / "new" / "execution")) == EPOCHS


def test_outputs_of_which_little_would_fit_are_not_kept(trained: Any, tmp_path: Path) -> None:
    unused = open_store(tmp_path, 1000)
    trained(unused)
    assert not list(tmp_path.rglob("epoch-*"))
    assert unused.counts["computed"] == EPOCHS * STEPS


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_killed_training_goes_on_to_the_same_bits(
    epoch: int, trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, folder = Checkpoints(tmp_path / "work", "this"), tmp_path / "store"
    monkeypatch.setattr(Store, "_close", lambda self: None)  # a killed process closes nothing
    with pytest.raises(Killed):
        trained(open_store(folder), checkpoints=checkpoints, observer=KilledIn(epoch))
    monkeypatch.undo()
    continued = open_store(folder)
    assert torch.equal(trained(continued, checkpoints=checkpoints), trained(None))
    assert continued.counts["read"] == 2
    left = folder / f"address/execution/epoch-{epoch:05d}"
    os.utime(left, (0, 0))  # nobody has written it for long
    trained(mended := open_store(folder))
    assert mended.counts["computed"] == STEPS
    trained(full := open_store(folder))
    assert full.counts["computed"] == 0


@pytest.mark.parametrize("damage", ["middle", "end", "empty", "folder"])
def test_a_damaged_file_is_computed_again(
    damage: str, trained: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = trained(open_store(tmp_path))
    path = tmp_path / "address/execution/epoch-00001"
    content = path.read_bytes()
    middle = len(content) // 2
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        flipped = bytes([content[middle] ^ 1])
        damaged = {
            "middle": content[:middle] + flipped + content[middle + 1 :],
            "end": content[:-1],
            "empty": b"",
        }
        path.write_bytes(damaged[damage])
        os.utime(path, (0, 0))
    assert torch.equal(trained(used := open_store(tmp_path)), plain)
    assert 0 < used.counts["computed"] <= STEPS
    assert "epoch-00001" in caplog.text
    if damage != "folder":
        trained(open_store(tmp_path))
        trained(full := open_store(tmp_path))
        assert full.counts["computed"] == 0


class Deleting(Observer):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def batch(self, done: int, total: int) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.mark.parametrize("is_full", [False, True])
def test_the_store_may_be_deleted_while_it_is_used(is_full: bool, trained: Any, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    if is_full:
        trained(open_store(folder))
    assert torch.equal(trained(open_store(folder), observer=Deleting(folder)), trained(None))


def test_a_full_disk_is_a_warning(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    assert torch.equal(trained(open_store(tmp_path)), trained(None))
    assert "No space left" in caplog.text
    assert not list(tmp_path.rglob("epoch-*"))


def test_two_at_once_share_one_pass_of_the_teacher(tmp_path: Path) -> None:
    """In lockstep, with a teacher that takes its time."""
    computed, stores = [], [open_store(tmp_path) for _ in range(2)]

    def compute(batch: Batch, needs: Needs) -> Outputs:
        time.sleep(0.01)
        computed.append((batch.epoch, batch.step))
        return Outputs(batch.images.mean((1, 2, 3))[:, None], dict.fromkeys(MAPS, batch.images[:, 0]))

    def node(used: Store, found: list[Outputs]) -> None:
        with used.cached(compute) as outputs:
            for epoch in range(EPOCHS):
                for step in range(STEPS):
                    images = torch.full((2, 1, 4, 4), epoch + step / 8)
                    found.append(outputs(Batch(images, images, epoch, step), KEPT))
                    time.sleep(0.01)

    results: list[list[Outputs]] = [[], []]
    threads = [threading.Thread(target=node, args=pair) for pair in zip(stores, results, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) < 1.5 * EPOCHS * STEPS
    first, second = results
    assert len(first) == len(second) == EPOCHS * STEPS
    for one, other in zip(first, second, strict=True):
        assert one.logits is not None
        assert other.logits is not None
        assert torch.equal(one.logits, other.logits)
        assert all(torch.equal(one.maps[each], other.maps[each]) for each in MAPS)


def test_a_method_with_input_gradients_leaves_the_store_alone(trained: Any, tmp_path: Path) -> None:
    plain = trained(None, "gradient")
    trained(open_store(tmp_path), "kd")
    unused = open_store(tmp_path)
    assert torch.equal(trained(unused, "gradient"), plain)
    assert unused.counts == {"read": 0, "computed": 0, "bytes": 0}


def test_features_are_left_to_the_teacher(tmp_path: Path) -> None:
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.zeros(2), 0, 0)
    asked = []

    def compute(batch: Batch, needs: Needs) -> Outputs:
        asked.append(needs)
        return Outputs()

    needs = Needs(logits=True, features=("stage1",))
    with open_store(tmp_path).cached(compute) as outputs:
        outputs(batch, needs)
    assert asked == [needs]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [[0.1, -3.0], [7e4, 0.1], [float("nan"), 1.0], [float("inf"), 1e-9]])
def test_what_is_read_has_the_bits_of_what_was_computed(values: list[float], tmp_path: Path) -> None:
    """Values beyond half precision, too, which are kept as they are."""
    computed = rounded(Outputs(torch.tensor([values]), {path: torch.ones(1, 2, 2) / 3 for path in MAPS}))
    assert computed.logits is not None
    assert computed.logits.dtype == torch.float32
    assert (computed.logits[0, 0].item() == 7e4) == (values[0] == 7e4)
    found = []
    for _ in range(2):
        with open_store(tmp_path).cached(lambda *_: computed) as outputs:
            found = [
                outputs(Batch(torch.zeros(1, 1), torch.zeros(1), 0, step), KEPT) for step in range(STEPS)
            ]
    for each in found:
        assert each.logits is not None
        assert each.logits.numpy().tobytes() == computed.logits.numpy().tobytes()
        assert all(torch.equal(each.maps[path], computed.maps[path]) for path in MAPS)
