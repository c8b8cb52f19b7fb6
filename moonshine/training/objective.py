"""Objective of training: the terms that add up to the loss, and whatever is trained beside the network for them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from moonshine.training.labels import cross_entropy

Terms = dict[str, Tensor]
"""Terms of a loss, scalars, by name; their sum is what is minimised."""


@dataclass(frozen=True)
class Batch:
    """Images (N, C, H, W) and labels, (N,) or (N, H, W), at a 0-based epoch and step of it."""

    images: Tensor
    labels: Tensor
    epoch: int
    step: int


class Objective(nn.Module):
    """Cross-entropy on the labels alone, as for the teacher and from scratch; other objectives derive from it.

    The training loop optimises, checkpoints and averages over processes what an objective holds, together with the
    network. It ends with the training: no count and no file of the network has it. ``class_weights`` (K,) weigh the
    cross-entropy.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all terms, in the order in which a history has them."""
        return ("ce",)

    @property
    def has_phases(self) -> bool:
        """Whether some epochs leave out terms, and with them perhaps parts of the network."""
        return False

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, weighted by class where the study says so."""
        return cross_entropy(logits, labels, self.class_weights)

    def forward(self, network: nn.Module, batch: Batch) -> tuple[Tensor | None, Terms]:
        """Logits of the batch, None in a phase that does not compute them, and the terms of this epoch."""
        logits = network(batch.images)
        return logits, {"ce": self.cross_entropy(logits, batch.labels)}


class Together(nn.Module):
    """A network and its objective as one module, whose forward pass is the objective's."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, batch: Batch) -> tuple[Tensor | None, Terms]:
        return self.objective(self.network, batch)
