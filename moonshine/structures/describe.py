"""Structure of a third-party model with cheap blocks: the data that rebuild it without pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from moonshine.blocks.registry import BlockPlan, parse_block, plan_block
from moonshine.errors import MoonshineError
from moonshine.networks.families import is_model
from moonshine.networks.models import build_model, json_copy
from moonshine.networks.sources import sources
from moonshine.structures.build import from_structure, sites, to_structure
from moonshine.structures.structure import Structure
from moonshine.substitution.layout import Layout, lay_out
from moonshine.substitution.substitute import choose, nothing_to_replace, substitute
from moonshine.substitution.watching import zero_pass


def describe_model(
    name: str,
    kwargs: Mapping[str, Any],
    num_classes: int,
    input_shape: Sequence[int],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    dense: bool | None = False,
) -> tuple[Structure, nn.Module, Layout]:
    """Return a model's structure with S in every place, the model itself and its layout.

    Patterns as in `moonshine.substitution.layout.lay_out`.
    MoonshineError for a model that cannot be built, cannot take the input or does not return the logits that
    `check_logits` wants, and for ``kwargs`` that JSON would not give back.
    """
    code = sources(name)  # before the import: a later edit does not change the model that is built here
    module = build_model(name, json_copy(kwargs, "teacher.kwargs"), num_classes, input_shape[0])
    check_logits(module, name, input_shape, num_classes, dense)
    layout = lay_out(module, input_shape, include, exclude)
    structure = Structure(
        network=name,
        kwargs=dict(kwargs),
        num_classes=num_classes,
        in_channels=input_shape[0],
        source_sha256=code or None,  # None for a library's model, which has a version
        blocks={place.path: "S" for place in layout.places},
        kept=layout.kept,
    )
    return structure, module, layout


def places_of(
    name: str,
    kwargs: Mapping[str, Any],
    num_classes: int,
    input_shape: Sequence[int],
    blocks: Sequence[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    *,
    dense: bool | None = False,
) -> tuple[Structure, dict[str, tuple[str, ...]], dict[str, dict[str, str]]]:
    """Return the structure of any network by name with S in every place, and which of ``blocks`` fit at each.

    The last mapping holds the others: place -> block -> reason. A block whose windows do not divide the maps of all its
    places fits none. MoonshineError as for `describe_model`, for an invalid block, and for a network in which nothing
    can be replaced, unless S alone is asked for.
    """
    names = _distinct(blocks)
    if is_model(name):
        structure, _, layout = describe_model(
            name, kwargs, num_classes, input_shape, include, exclude, dense=dense
        )
        if not layout.places and names != ["S"]:
            raise nothing_to_replace(name, "a cheap block", layout.kept)
        found = {block: _plans(layout, block) for block in names}
    else:
        structure = to_structure(name, "S", num_classes, input_shape[0])
        found = {block: _choose(name, block) for block in names}

    def build(blocks: Mapping[str, str]) -> nn.Module:
        return from_structure(structure.with_blocks(blocks), name)

    return structure, *_fitting(structure, found, build, input_shape)


def places_in(
    module: nn.Module,
    input_shape: Sequence[int],
    blocks: Sequence[str],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> tuple[Structure, dict[str, tuple[str, ...]], dict[str, dict[str, str]]]:
    """Return what `places_of` does, for a network that no name builds; its structure does not rebuild it.

    The number of classes is that of its logits; 1 for a network, such as a detector, that returns something else.
    """
    layout = lay_out(module, input_shape, include, exclude)
    if not layout.places:
        raise nothing_to_replace(type(module).__name__, "a cheap block", layout.kept)
    logits = zero_pass(module, input_shape)
    structure = Structure(
        network=type(module).__name__,
        num_classes=logits.shape[1] if isinstance(logits, torch.Tensor) and logits.dim() in (2, 4) else 1,
        in_channels=input_shape[0],
        blocks={place.path: "S" for place in layout.places},
        kept=layout.kept,
    )
    found = {block: _plans(layout, block) for block in _distinct(blocks)}
    return structure, *_fitting(structure, found, partial(substitute, module), input_shape)


PlansByBlock = Mapping[str, tuple[Sequence[BlockPlan], Mapping[str, str]]]
"""Block -> its plans where it fits, and place -> reason where it does not."""


def _distinct(blocks: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(str(parse_block(block)) for block in blocks))


def _fitting(
    structure: Structure,
    found: PlansByBlock,
    build: Callable[[Mapping[str, str]], nn.Module],
    input_shape: Sequence[int],
) -> tuple[dict[str, tuple[str, ...]], dict[str, dict[str, str]]]:
    """Return which blocks fit at each place, and place -> block -> reason for the others."""
    reasons = {block: dict(refused) for block, (_, refused) in found.items()}
    for block, (plans, _) in found.items():
        if not any(plan.needs_exact_maps for plan in plans):
            continue
        chosen = {path: "S" if path in reasons[block] else block for path in structure.blocks}
        try:
            zero_pass(build(chosen), input_shape)
        except MoonshineError as error:
            reasons[block] = {**dict.fromkeys(structure.blocks, str(error)), **reasons[block]}
    fitting = {path: tuple(b for b in found if path not in reasons[b]) for path in structure.blocks}
    refused = {
        path: {block: reasons[block][path] for block in found if path in reasons[block]}
        for path in structure.blocks
    }
    return fitting, {path: each for path, each in refused.items() if each}


def _plans(layout: Layout, block: str) -> tuple[list[BlockPlan], dict[str, str]]:
    """Plan a block for each place of a third-party network where it fits, and return path -> reason for the others."""
    changes, refused = choose(layout, block)
    return [change.plan for change in changes], refused


def _choose(network: str, block: str) -> tuple[list[BlockPlan], dict[str, str]]:
    """Plan a block for each place of a built-in network where it fits, and return path -> reason for the others."""
    plans: list[BlockPlan] = []
    refused: dict[str, str] = {}
    for site in sites(network):
        try:
            plans.append(plan_block(block, site.convolutions, site.path))
        except MoonshineError as error:
            refused[site.path] = str(error)
    return plans, refused


def check_logits(
    module: nn.Module, name: str, input_shape: Sequence[int], num_classes: int, dense: bool | None = False
) -> None:
    """MoonshineError unless an image of ``input_shape`` (channels, height, width) gives (1, num_classes) logits.

    ``dense``: unless it gives (1, num_classes, height, width), for label maps; None allows both.
    """
    try:
        logits = zero_pass(module, input_shape)
    except MoonshineError as error:
        raise MoonshineError(f"model {name}: {error}") from error
    is_tensor = isinstance(logits, torch.Tensor)
    found = tuple(logits.shape) if is_tensor else f"a {type(logits).__name__}"
    shapes = {False: (1, num_classes), True: (1, num_classes, *input_shape[1:])}
    allowed = [shape for kind, shape in shapes.items() if dense in (kind, None)]
    if found not in allowed:
        right = is_tensor and logits.shape[1:2] == (num_classes,)
        number = (
            "" if right else f", for the data's {num_classes} classes (teacher.kwargs may set the number)"
        )
        more = "" if is_tensor else "; a module of yours around it may return one of its outputs"
        if right and dense and logits.dim() == 4:
            more = ", of the image's size; a module of yours around it may enlarge them"
        raise MoonshineError(
            f"model {name}: one image gives {found}; allowed: logits {' or '.join(map(str, allowed))}{number}{more}"
        )
