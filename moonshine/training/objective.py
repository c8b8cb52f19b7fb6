"""Training objective: the terms that add up to the loss, and whatever is trained for them besides the network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from moonshine.data.mixing import MixedBatch
from moonshine.training.labels import LabelLoss

Terms = dict[str, Tensor]
"""Scalar terms of a loss by name; training minimises their sum."""


@dataclass(frozen=True)
class Batch:
    """Images (N, C, H, W) and labels, (N,) or (N, H, W), of a step within an epoch; both count from 0.

    ``mixed`` has the labels of the images that were mixed into these.
    """

    images: Tensor
    labels: Tensor
    epoch: int
    step: int
    mixed: MixedBatch | None = None


class Objective(nn.Module):
    """Cross-entropy on the labels alone, for teachers and training from scratch; base class of other objectives.

    The training loop optimises, checkpoints and averages over processes an objective's parameters together with the
    network's. They are discarded after training and appear in no parameter count and no file.
    """

    def __init__(self, label_loss: LabelLoss | None = None) -> None:
        super().__init__()
        self.label_loss = label_loss or LabelLoss()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all terms, in the order of the history's columns."""
        return ("ce",)

    @property
    def has_phases(self) -> bool:
        """Return whether some epochs leave out terms, and with them possibly parts of the network."""
        return False

    def forward(self, network: nn.Module, batch: Batch) -> tuple[Tensor | None, Terms]:
        """Return the batch's logits (None in a phase that does not compute them) and the terms active in its epoch."""
        logits = network(batch.images)
        return logits, {"ce": self.label_loss(logits, batch.labels, batch.mixed)}


class Together(nn.Module):
    """Network and objective as one module, whose forward pass is the objective's."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, batch: Batch) -> tuple[Tensor | None, Terms]:
        return self.objective(self.network, batch)
