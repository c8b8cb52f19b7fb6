"""Deep Compression of a student: section ``compress`` of a study."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moonshine.fields import Positive, Section, Share, Whole


class FineTuning(Section):
    """Epochs of fine-tuning; the learning rate falls from ``lr`` to 0 along a cosine."""

    epochs: Whole
    lr: Positive


class Pruning(FineTuning):
    """Pruning in ``rounds``, each followed by ``epochs`` of fine-tuning; each keeps the same share of the weights."""

    rounds: Annotated[int, Field(ge=1, le=100)]


class Compress(Section):
    """Deep Compression after training: see `moonshine.training.updates.compressing`.

    Of every layer's weights the share ``sparsity`` becomes 0, and the others share ``2**bits`` values. A rival may
    leave ``sparsity`` to its budget.
    """

    sparsity: Share | None = None
    bits: Annotated[int, Field(ge=1, le=8)]
    prune: Pruning
    share: FineTuning

    @property
    def pruning_epochs(self) -> int:
        return self.prune.rounds * self.prune.epochs

    @property
    def epochs(self) -> int:
        """Return the number of epochs after training."""
        return self.pruning_epochs + self.share.epochs
