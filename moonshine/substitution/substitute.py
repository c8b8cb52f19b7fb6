"""Substitution of cheap blocks in any network, which makes the student of any teacher.

The paper replaces the residual blocks of one architecture; this replaces the convolutions of any: G(g) replaces each
spatial convolution; B and BG replace both convolutions of a recognised residual block at once, and single ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from moonshine.blocks.build import CheapConvolution
from moonshine.blocks.notation import Block
from moonshine.blocks.registry import parse_block, plan_block
from moonshine.errors import MoonshineError, first_few
from moonshine.networks.copying import copy_of
from moonshine.substitution.layout import Layout, lay_out
from moonshine.substitution.patterns import spread
from moonshine.substitution.places import BlockChange
from moonshine.substitution.replacement import apply, find_changes
from moonshine.substitution.watching import record_calls

_STRUCTURE = "moonshine_structure"


def substitute(
    module: nn.Module,
    block: str | Block | Mapping[str, str | Block],
    *,
    input_shape: Sequence[int] | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
) -> nn.Module:
    """Return the student of a teacher: a copy with cheap blocks; the network itself is left unchanged.

    ``block`` is one block for every place where it fits, a mapping of module paths to blocks, or one of patterns, as
    ``{"layer1.*": "G(4)", "*": "S"}``, in which the first that matches a place counts. Replacements have new
    weights (`moonshine.blocks.initialisation.initialise`), all other layers keep theirs. ``input_shape``, ``include``
    and ``exclude`` as in `moonshine.substitution.layout.lay_out`; with ``input_shape`` the student is also checked as
    by `check_runs`.
    MoonshineError for a network in which nothing can be replaced (with the reason for each convolution), for a path or
    pattern of no place, and for a block that does not fit there.
    """
    include, exclude = tuple(include), tuple(exclude)
    if not isinstance(block, Mapping):
        layout = lay_out(module, input_shape, include, exclude)
        changes, refused = choose(layout, block)
        if not changes:
            raise nothing_to_replace(
                type(module).__name__, str(parse_block(block)), {**layout.kept, **refused}
            )
    elif include or exclude:
        raise MoonshineError(
            "include, exclude: found beside a mapping of places to blocks; allowed: one of them"
        )
    elif all(path in dict(module.named_modules()) for path in block):
        changes = find_changes(module, block)
    else:
        changes = choose_each(lay_out(module, input_shape), block, type(module).__name__)
    student = copy_of(module)
    apply(student, changes)
    if structure := remembered(module):
        blocks = {change.place.path: str(change.plan.block) for change in changes}
        remember(student, structure.with_blocks(blocks))
    if input_shape is not None:
        check_runs(student, module, input_shape)
    return student


def remember(module: nn.Module, structure: Any) -> None:
    """Note on a network the `moonshine.structures.structure.Structure` that it was built from."""
    vars(module)[_STRUCTURE] = structure


def remembered(module: nn.Module) -> Any:
    """Return the structure noted on a network; None without one. The network may have been changed since."""
    return vars(module).get(_STRUCTURE)


def check_runs(student: nn.Module, teacher: nn.Module, input_shape: Sequence[int]) -> None:
    """MoonshineError unless a student takes this input and runs every block whose original its teacher runs.

    It fails if a network's own code reads more from a convolution than its widths and geometry, or holds it otherwise
    than as a submodule.
    """
    made = {path for path, layer in student.named_modules() if isinstance(layer, CheapConvolution)}
    ran = {call.path for call in record_calls(teacher, input_shape)}
    try:
        run = {call.path for call in record_calls(student, input_shape)}
    except MoonshineError as error:
        raise MoonshineError(
            f"with blocks in place, {error}; exclude what the network's code reads"
        ) from error
    if idle := sorted(made & ran - run):
        raise MoonshineError(
            f"{type(student).__name__} does not run the blocks at {first_few(idle)}: its code does not call these "
            "convolutions as submodules; exclude them"
        )


def choose(layout: Layout, block: str | Block) -> tuple[list[BlockChange], dict[str, str]]:
    """Plan a block for each place where it fits, S included, and return place -> reason where it does not."""
    block = parse_block(block)
    changes: list[BlockChange] = []
    refused: dict[str, str] = {}
    for place in layout.places:
        try:
            changes.append(BlockChange(place, plan_block(block, place.geometries, place.path)))
        except MoonshineError as error:
            refused[place.path] = str(error)
    return changes, refused


def choose_each(layout: Layout, blocks: Mapping[str, str | Block], network: str) -> list[BlockChange]:
    """Plan for each place the block of the first pattern that matches it, as `spread`, whose errors it has too.

    MoonshineError for a block that does not fit.
    """
    chosen = spread(blocks, [place.path for place in layout.places], network)
    return [
        BlockChange(place, plan_block(chosen[place.path], place.geometries, place.path))
        for place in layout.places
    ]


def nothing_to_replace(name: str, block: str, reasons: Mapping[str, str]) -> MoonshineError:
    """Return the error for a network in which nothing can be replaced, with the convolutions grouped by reason."""
    grouped: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        grouped.setdefault(reason.removeprefix(f"block {block} does not fit {path}: "), []).append(path)
    said = "; ".join(f"{reason}: {first_few(paths, 3)}" for reason, paths in grouped.items())
    return MoonshineError(f"{name} has no convolution that {block} can replace ({said or 'it has none'})")
