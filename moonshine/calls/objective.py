"""``moonshine.objective``: the loss of a distillation method, for a training loop of the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.calls.given import check_batch, check_labels, checked_pair, logits_shape, section
from moonshine.calls.loaders import warn_if_guessing
from moonshine.config.methods import Method
from moonshine.data.mixing import MixedBatch
from moonshine.distillation.objective import Distillation, distillation
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError
from moonshine.training.labels import LabelLoss
from moonshine.training.objective import Batch

ENDLESS = 10**9
"""Epochs of a training whose end only the caller knows: the last phase of a method lasts."""


def objective(
    student: nn.Module,
    teacher: nn.Module,
    method: Method | Mapping[str, Any],
    *,
    input_shape: Sequence[int],
    taps: Sequence[str] | str = "auto",
    criterion: nn.Module | None = None,
    seed: int = 0,
) -> StudentLoss:
    """Return the loss of ``student`` under a distillation ``method`` from ``teacher``, as a module.

    ``loss(images, labels)`` runs both networks and returns a scalar to call ``backward`` on; see `StudentLoss`.
    ``method`` is written as in ``params.yaml``: ``{"at": {"form": "resolution-free", "beta": 1000.0}}``.
    ``input_shape`` is (channels, height, width) of an image; later batches may be of other sizes. ``taps`` are paths of
    modules of both networks whose attention maps are compared: by default ``teacher.taps``, or the ends of its stages.
    ``criterion`` is the loss on the labels, by default the mean cross-entropy. ``seed`` initialises what the method
    trains besides the student. Both networks stay on their devices.
    MoonshineError for an invalid method, and for networks and taps that do not belong together.
    """
    method = section("method", method, Method)
    pair = checked_pair(student, teacher, method, input_shape, taps)
    labels = LabelLoss() if criterion is None else _Criterion(criterion)
    held = ExitStack()
    terms = held.enter_context(distillation(pair, method, ENDLESS, None, labels, seed))
    needs_epoch = any(each.depends_on_epoch for each in method.terms.values())
    return StudentLoss(pair, terms, None if needs_epoch else 0, held)


class _Criterion(LabelLoss):
    """Loss on the labels of the caller's own; its loop mixes no images."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, logits: Tensor, labels: Tensor, mixed: MixedBatch | None = None) -> Tensor:
        return self.criterion(logits, labels)


class StudentLoss(nn.Module):
    """Loss of a student: ``loss(images, labels)`` -> scalar, on images normalised as the networks expect them.

    ``parameters()`` are the student's and whatever the method trains besides it, such as the regressor of ``hints``:
    give them to the optimiser, and the module to DistributedDataParallel. ``state_dict()`` has both too. ``train()``,
    ``eval()`` and ``to()`` act on the student; the teacher is in eval mode, runs without gradients, and moves along.
    After a call, ``terms`` has the value of each term and ``logits`` the student's logits, without gradients (None in
    epochs of ``hints`` alone). As a context manager, or by ``close()``, it leaves both networks as they were: no hooks,
    the teacher in its modes and on its device.
    """

    def __init__(
        self,
        pair: Pair,
        objective: Distillation,
        epoch: int | None,
        held: ExitStack | None,
    ) -> None:
        super().__init__()
        self.student, self.objective = pair.student, objective
        self.terms: dict[str, Tensor] = {}
        self.logits: Tensor | None = None
        self._pair, self._held = pair, held  # no submodule: the teacher is neither trained nor saved
        self._logits_shape = logits_shape("student", pair.student, pair.input_shape)
        self._epoch, self._step = epoch, 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, from 0; ``hints``, and ``dkd`` with a warm-up, need to know."""
        self._epoch, self._step = epoch, 0

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._held is None:
            raise MoonshineError("loss: was closed; allowed: another moonshine.objective(...)")
        if self._epoch is None:
            names = " and ".join(self.objective.columns[1:])
            raise MoonshineError(
                f"epoch: not set; allowed: loss.set_epoch(epoch) at the start of every epoch, from 0, because {names} "
                "changes over epochs"
            )
        if not self.terms:  # the first batch: later ones are not worth waiting for the device
            check_batch((images, labels), self._pair.input_shape[0])
            check_labels(images, labels, self._logits_shape)
            warn_if_guessing(self._pair.teacher, images, labels, self._logits_shape)
        logits, terms = self.objective(self.student, Batch(images, labels, self._epoch, self._step))
        self._step += 1
        self.terms = {name: value.detach() for name, value in terms.items()}
        self.logits = None if logits is None else logits.detach()
        return torch.stack(list(terms.values())).sum()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> StudentLoss:
        self._pair.teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def close(self) -> None:
        """Leave both networks as they were; the loss can no longer be called."""
        if self._held is not None:
            self._held.close()
        self._held = None

    def __enter__(self) -> StudentLoss:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
