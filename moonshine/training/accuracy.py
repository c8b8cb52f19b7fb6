"""Top-k errors of classification."""

from __future__ import annotations

from torch import Tensor

TOP = 5
TOP_FROM = 50
"""Smallest number of classes for a top-5 error: five random guesses are then right at most once in ten."""


def top_k_errors(logits: Tensor, labels: Tensor, k: int = TOP) -> Tensor:
    """Return whether each label is missing from the ``k`` classes with the largest logits.

    ``logits`` (N, classes) with at least ``k`` classes, ``labels`` int64 (N,); returns bool (N,).
    """
    return (logits.topk(k, dim=1).indices != labels[:, None]).all(1)
