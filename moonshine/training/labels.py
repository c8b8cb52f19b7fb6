"""Cross-entropy on the labels of images or pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moonshine.config.training import Training
from moonshine.data.batches import UNLABELLED
from moonshine.data.mixing import MixedBatch
from moonshine.errors import MoonshineError


def cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Return the mean cross-entropy of (N, K) logits and (N,) labels, or (N, K, H, W) and (N, H, W), in fp32 or wider.

    Unlabelled pixels are ignored. ``weights`` (K,) weight the classes, as in torch: the mean is weighted too. A share
    ``smoothing`` of each label is spread evenly over all K classes (Szegedy et al., 2016, section 7). A batch
    without labels gives 0.
    """
    logits = at_least_fp32(logits)
    if labels.ndim == 1 and weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    total = F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)
    known = labels[labels != UNLABELLED]
    weight = known.numel() if weights is None else weights[known].sum()
    return total / torch.as_tensor(weight, dtype=total.dtype, device=total.device).clamp(min=1e-12)


class LabelLoss(nn.Module):
    """Cross-entropy on the labels in training: `cross_entropy` with a study's class weights (K,) and smoothing.

    Of mixed images it is ``(1 - share) CE(own labels) + share CE(the others')``.
    """

    weights: Tensor | None

    def __init__(self, weights: Tensor | None = None, smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor, mixed: MixedBatch | None = None) -> Tensor:
        own = cross_entropy(logits, labels, self.weights, self.smoothing)
        if mixed is None:
            return own
        other = cross_entropy(logits, mixed.labels, self.weights, self.smoothing)
        return (1 - mixed.share) * own + mixed.share * other


def label_loss(training: Training, shares: Sequence[float]) -> LabelLoss:
    """Return the loss on labels that a study asks for; ``shares`` are the classes' among all training pixels."""
    return LabelLoss(class_weights(training, shares), training.label_smoothing)


def at_least_fp32(x: Tensor) -> Tensor:
    """Return the tensor, converted to fp32 if it is bf16 or fp16."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def check_no_probabilities(outputs: Tensor, whose: str) -> None:
    """Raise MoonshineError if outputs (N, K, ...) are probabilities, not logits: none negative, sums over classes of 1.

    Cross-entropy would apply another softmax, and the KD term would be about a hundredth of its intended size.
    """
    sums = outputs.detach().float().sum(1)
    if bool((outputs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-3):
        raise MoonshineError(
            f"{whose} returns probabilities: over its {outputs.shape[1]} classes they sum to 1; allowed: logits, the "
            "input of its last Softmax (wrap it in a module that returns them)"
        )


def class_weights(training: Training, shares: Sequence[float]) -> Tensor | None:
    """Return the class weights (K,) of a study, ``1 / ln(log_offset + share)``, or None for equal weights.

    ``shares`` are the classes' shares of all training pixels. Source: Paszke et al., "ENet", 2016, section 5.2.
    """
    if training.class_weights is None:
        return None
    return 1 / (training.class_weights.log_offset + torch.tensor(shares)).log()
