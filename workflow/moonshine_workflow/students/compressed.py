"""How a student is compressed, known before anything trains."""

from __future__ import annotations

from typing import Any

from torch import nn

from moonshine.compression.network import bound
from moonshine.config.networks import Student
from moonshine.costs.budgets import parse_budgets, show
from moonshine.errors import MoonshineError

SPARSITIES = tuple(hundredths / 100 for hundredths in range(100))
"""What a budget chooses from."""


def compression_of(student: Student, network: nn.Module) -> dict[str, Any] | None:
    """Return the settings under ``compress`` with a sparsity: the student's, or the least that fits its budget.

    A budget limits the most bytes that the file may take. MoonshineError for one that is not reached: it says what the
    file may take at the sparsity given, or at the greatest.
    """
    settings = student.compression
    if settings is None:
        return None
    sparsities = SPARSITIES if settings.sparsity is None else (settings.sparsity,)
    (budget,) = parse_budgets(student.rival.budget) if student.rival and student.rival.budget else (None,)
    bytes_at = bound(network, settings.bits)
    for sparsity in sparsities:
        if budget is None or budget.allows(bytes_at(sparsity)):
            return settings.model_copy(update={"sparsity": sparsity}).model_dump(mode="json")
    raise MoonshineError(
        f"rival.budget: found {budget}; with {settings.bits} bits and sparsity {sparsities[-1]} the file may take "
        f"{show('dc', bytes_at(sparsities[-1]))}; allowed: at least that, or fewer bits"
        + ("" if settings.sparsity is None else ", or a greater sparsity")
    )
