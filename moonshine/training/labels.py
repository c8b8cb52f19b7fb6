"""Cross-entropy on the labels, of images or of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moonshine.config.training import Training
from moonshine.data.batches import UNLABELLED
from moonshine.errors import MoonshineError


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy, in fp32 at least: of (N, K) logits and (N,) labels, or of (N, K, H, W) and (N, H, W).

    Pixels without a label are left out. ``weights`` (K,) weighs each label's class, as torch does: the mean is over
    the weights. A batch without any label gives 0.
    """
    logits = at_least_fp32(logits)
    if labels.ndim == 1 and weights is None:
        return F.cross_entropy(logits, labels)
    total = F.cross_entropy(logits, labels, weights, reduction="sum")
    known = labels[labels != UNLABELLED]
    weight = known.numel() if weights is None else weights[known].sum()
    return total / torch.as_tensor(weight, dtype=total.dtype, device=total.device).clamp(min=1e-12)


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor itself, in fp32 where it is in bf16 or fp16."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def check_no_probabilities(outputs: Tensor, whose: str) -> None:
    """MoonshineError for outputs (N, K, ...) that are no logits but probabilities: none below 0, the classes' sum is 1.

    Cross-entropy would take their softmax once more, and what KD adds would be about a hundredth of what is asked for.
    """
    sums = outputs.detach().float().sum(1)
    if bool((outputs >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-3):
        raise MoonshineError(
            f"{whose} returns probabilities: over its {outputs.shape[1]} classes they sum to 1; allowed: logits, what "
            "comes before its last Softmax (a module of yours around it may return them)"
        )


def class_weights(training: Training, shares: Sequence[float]) -> Tensor | None:
    """The weight of each class that a study asks for, (K,): ``1 / ln(log_offset + share)``; None for equal ones.

    ``shares`` are those of the classes among all training pixels. Source: Paszke et al., "ENet", 2016, section 5.2.
    """
    if training.class_weights is None:
        return None
    return 1 / (training.class_weights.log_offset + torch.tensor(shares)).log()
