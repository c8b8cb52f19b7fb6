"""``moonshine.plan``: the students of a network that fit a budget, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from torch import nn

from moonshine.blocks.presets import choices
from moonshine.calls.given import check_types, checked_image_shape
from moonshine.calls.plan_measurements import exporter, latencies
from moonshine.calls.plan_text import plan_as_text
from moonshine.costs.budgets import Budget, parse_budgets
from moonshine.errors import MoonshineError
from moonshine.search.planning import Option, Plan, plan_students
from moonshine.search.space import Mixture, Space
from moonshine.structures.describe import places_in, places_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BudgetPlan:
    """Students of a network under budgets; printed, it is the text of ``moonshine plan``."""

    space: Space
    budgets: tuple[Budget, ...]
    found: Plan
    threads: int

    @property
    def options(self) -> tuple[Option, ...]:
        """The teacher, every student with one block everywhere, and the mixtures."""
        return self.found.teacher, *self.found.uniform, *self.found.mixed

    @property
    def table(self) -> pd.DataFrame:
        """A row per option: parameters, MACs, bytes of files, peak bytes and milliseconds, and whether it fits."""
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise MoonshineError("table: needs pandas, not installed here; pip install pandas") from None
        rows = [{**option.values, "fits": option.fits} for option in self.options]
        return pd.DataFrame(rows, index=[option.name for option in self.options])

    @property
    def blocks(self) -> Mapping[str, Mixture]:
        """Option -> block at each place, which `moonshine.substitute` takes."""
        return {option.name: option.blocks for option in self.options}

    def __str__(self) -> str:
        return plan_as_text(self.space, self.budgets, self.found, self.threads)


def plan(
    model: nn.Module | str,
    budget: str | Sequence[str],
    input_shape: Sequence[int],
    *,
    num_classes: int | None = None,
    blocks: str | Iterable[str] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    latency: bool = True,
    threads: int = 1,
) -> BudgetPlan:
    """Return which students of ``model`` fit a ``budget`` such as ``"1MB onnx-int8"``; several hold together.

    ``model`` is a network, or a name such as ``wrn-40-2`` or ``torchvision/resnet18``, with ``num_classes``.
    ``input_shape`` is (channels, height, width). ``blocks`` are candidates, or ``"paper"`` (default), ``"separable"``,
    ``"small"``, ``"all"``; ``include`` and ``exclude`` as in `moonshine.substitute`. Sizes are exact, those of exported
    files from really exporting. Latencies are measured on this machine's CPU with ``threads``, which takes a while for
    a large network, so that ``latency=False`` leaves them out; both are cached for a model given by its name.
    MoonshineError for an invalid budget or block, for a network that does not take the input or in which nothing can be
    replaced, and for a budget that no student meets, with the least that would do.
    """
    budgets = parse_budgets(budget)
    check_types(model=(model, nn.Module | str))
    shape, candidates, chosen = (
        checked_image_shape(input_shape),
        choices(blocks),
        (tuple(include), tuple(exclude)),
    )
    if isinstance(model, nn.Module):
        space = Space(*places_in(model, shape, candidates, *chosen), shape, module=model)
    elif num_classes is None:
        raise MoonshineError(f"num_classes: found None; allowed: the number of classes of {model}")
    else:
        space = Space(
            *places_of(model, {}, num_classes, shape, candidates, *chosen, dense=None), shape, model
        )
    times = partial(latencies, space, threads) if latency else None
    return BudgetPlan(space, budgets, plan_students(space, budgets, times, exporter(space)), threads)
