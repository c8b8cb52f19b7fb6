"""Result of a trained node, as its ``metrics.json`` records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from moonshine.json_model import JsonModel


class RunIdentity(JsonModel):
    """Identity of a trained node; ``method`` is ``teacher``, ``scratch`` or a key of the study's methods."""

    study: str
    node: str
    student: str
    network: str
    block: str
    method: str
    seed: int


class Score(JsonModel):
    """Error in percent, of label maps 100 - mIoU, and mean loss per example; None where not finite, or not known."""

    loss: float | None
    error_pct: float | None


class Evaluation(Score):
    """Score on the test set, where both are known, see `moonshine.training.evaluation.evaluate`.

    Of images ``wrong`` are the indices of those misclassified, such as ``3 17``. Of label maps ``image_errors`` is what
    each image says of the error in percent, such as ``31.2 40.1``.
    """

    loss: float
    error_pct: float
    examples: int | None = None
    wrong: str | None = None
    top5_error_pct: float | None = None
    miou_pct: float | None = None
    iou_pct: Mapping[str, float | None] = {}
    pixel_error_pct: float | None = None
    error_se: float | None = None
    image_errors: str | None = None


class Metrics(RunIdentity):
    """Result of a node; ``warnings`` are sentences that a reader of the report must know.

    ``compressed_bytes`` are those of ``network.dc``, from which a compressed student was read back and evaluated.
    """

    only_given: ClassVar[bool] = True
    status: Literal["completed", "diverged"]
    epochs_run: int
    parameters: int
    macs: int
    train: Score | None = None
    validation: Score | None = None
    test: Evaluation | None = None
    compressed_bytes: int | None = None
    warnings: str | None = None
