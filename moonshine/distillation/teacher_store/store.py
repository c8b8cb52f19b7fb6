"""Store of the teacher's logits and attention maps: one node computes them, the other nodes of its seed read them.

Batches depend on the seed and the epoch alone, so all students of a seed need the same outputs of their teacher. They
are rounded before use (`moonshine.distillation.outputs.rounded`), so training gives the same bits whether it reads or
computes them. A node that runs at the same time reads records as they appear; it waits for the next one about as long
as computing it takes, then computes it itself. There are no locks, and any file may be deleted at any time.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from moonshine.distillation.outputs import MapOf, Needs, Outputs, TeacherOutputs
from moonshine.distillation.teacher_store.epoch_file import HEADER, EpochFile, open_epoch
from moonshine.errors import MoonshineError
from moonshine.training.objective import Batch

LEAST_SHARE = 0.1
"""Smallest share of a schedule that must fit into the store for outputs to be kept at all."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """Batches of one training run, and which of the teacher's outputs are kept for them.

    ``address`` covers everything that the outputs depend on except how they are computed, which
    ``execution_address`` covers. ``kept`` never includes features.
    """

    address: str
    execution_address: str
    kept: Needs
    epochs: int
    steps: int


class Store:
    """Outputs of one schedule in ``folder``, which all schedules share and which may grow to ``bound`` bytes.

    When it is full, schedules whose address is not in ``wanted`` are removed, oldest first; if that is not enough,
    nothing more is kept. ``counts`` holds the number of steps whose outputs were ``read`` and ``computed``, and the
    ``bytes`` read. A problem with the folder is logged as a warning; outputs are then computed.
    """

    def __init__(self, folder: Path, bound: int, schedule: Schedule, wanted: Collection[str]) -> None:
        self._root, self._bound, self.schedule = folder, bound, schedule
        self._wanted = {schedule.address, *wanted}
        self._epoch: int | None = None
        self._file: EpochFile | None = None
        self._may_write = True
        self.counts = {"read": 0, "computed": 0, "bytes": 0}

    @property
    def kept(self) -> Needs:
        return self.schedule.kept

    @contextmanager
    def cached(self, compute: TeacherOutputs) -> Iterator[TeacherOutputs]:
        """Yield a function that reads outputs from the store, or computes them and keeps them there."""

        def outputs(batch: Batch, needs: Needs) -> Outputs:
            if needs == Needs() or not needs.is_within(self.kept):
                return compute(batch, needs)
            if batch.epoch != self._epoch or batch.step == 0:
                self._open(batch.epoch)
            if found := self._find(batch):
                self.counts["read"] += 1
                return found
            self.counts["computed"] += 1
            if not (self._file and self._file.is_mine):
                return compute(batch, needs)
            start = time.perf_counter()
            found = compute(batch, self.kept)
            self._keep(batch.step, found, start)
            return found

        try:
            yield outputs
        finally:
            self._close()

    def _open(self, epoch: int) -> None:
        self._close()
        self._epoch = epoch
        folder = self._root / self.schedule.address / self.schedule.execution_address
        path = folder / f"epoch-{epoch:05d}"
        try:
            self._file = open_epoch(path, self.schedule.steps, self._may_write)
        except OSError as error:
            logger.warning("%s: not used (%s)", path, error.strerror or error)

    def _find(self, batch: Batch) -> Outputs | None:
        file = self._file
        if file is None or file.is_mine:
            return None
        try:
            found = file.await_record(batch.step)
            if found is None:
                return None
            tensors = {name: tensor.to(batch.images.device).float() for name, tensor in load(found).items()}
            if any(len(tensor) != len(batch.images) for tensor in tensors.values()):
                raise MoonshineError("wrong batch size")
            outputs = Outputs(tensors.get("logits"), {each: tensors[_name(each)] for each in self.kept.maps})
        except (OSError, MoonshineError, SafetensorError, KeyError) as error:
            logger.warning("%s: damaged (%s); computed again", file.path, error)
            self._discard()
            return None
        self.counts["bytes"] += len(found)
        return outputs

    def _keep(self, step: int, outputs: Outputs, start: float) -> None:
        """Append outputs to the epoch, in half precision where that is exact."""
        file = self._file
        assert file
        named = {_name(each): values for each, values in outputs.maps.items()}
        if outputs.logits is not None:
            named["logits"] = outputs.logits
        content = save({name: _exact(values.cpu()) for name, values in named.items()})
        try:
            if step == 0 and not self._has_room(file, HEADER.size + len(content)):
                return self._discard()
            if not file.append(step, content, time.perf_counter() - start):
                return self._discard()
            if step == self.schedule.steps - 1:
                file.finish()
        except OSError as error:
            logger.warning("%s: not kept (%s)", file.path, error.strerror or error)
            self._discard()

    def _has_room(self, file: EpochFile, record: int) -> bool:
        """Reserve space for the whole epoch, visible to other nodes; return whether the store keeps to its bound."""
        size = record * self.schedule.steps
        if self._bound < LEAST_SHARE * size * self.schedule.epochs:
            logger.info(
                "the teacher's outputs are not kept: a schedule takes %.3g GB, runtime.teacher_store is %.3g GB",
                size * self.schedule.epochs / 1e9,
                self._bound / 1e9,
            )
            self._may_write = False
            return False
        file.reserve(size)
        sizes = {name: _bytes(self._root / name) for name in os.listdir(self._root)}
        surplus = sum(sizes.values()) - self._bound
        for name in sorted(sizes.keys() - self._wanted, key=lambda name: _date(self._root / name)):
            if surplus > 0:
                shutil.rmtree(self._root / name, ignore_errors=True)
                surplus -= sizes[name]
        if surplus > 0 and self._may_write:
            logger.info("the store of the teacher's outputs is full: runtime.teacher_store")
            self._may_write = False
        return surplus <= 0

    def _discard(self) -> None:
        if self._file:
            self._file.remove()
            self._file = None

    def _close(self) -> None:
        if self._file and self._file.is_mine and not self._file.is_complete(self.schedule.steps):
            self._discard()
        elif self._file:
            self._file.close()
            self._file = None


def _name(each: MapOf) -> str:
    return f"{each.kind} map {each.p} {each.path}"


def _exact(values: Tensor) -> Tensor:
    """Return values in half precision where that loses nothing, else unchanged."""
    half = values.half()
    return half if torch.equal(half.float(), values) else values


def _bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; other processes may be removing some."""
    total = 0
    for path in folder.rglob("epoch-*"):
        with suppress(OSError):
            total += path.stat().st_size
    return total


def _date(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
