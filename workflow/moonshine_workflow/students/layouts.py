"""Structures that need no search: the teacher's, and those of students whose blocks are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from moonshine.blocks.registry import parse_block
from moonshine.config import Study
from moonshine.costs.budgets import parse_budgets
from moonshine.costs.cost import cost
from moonshine.data.description import Description
from moonshine.errors import MoonshineError
from moonshine.networks.families import is_model
from moonshine.search.rivals import rival
from moonshine.structures.build import from_structure, to_structure
from moonshine.structures.describe import describe_model
from moonshine.structures.structure import MIXED, Structure, StudyStructure
from moonshine.substitution.layout import Layout
from moonshine.substitution.substitute import choose, choose_each, nothing_to_replace
from moonshine.substitution.tap_discovery import discover_taps, tap_sizes
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.structures import blocks_of, layout_key

Described = tuple[Structure, nn.Module, Layout]
"""A third-party model with S in every place, the model itself, and where other blocks fit."""

Named = TypeVar("Named")


@dataclass(frozen=True)
class Images:
    """Shapes of a study: (channels, height, width) of images, and ``classes`` logits, for label maps of each pixel.

    ``dataset`` is the description of the prepared data, None where these are not known.
    """

    shape: tuple[int, int, int]
    classes: int
    dataset: Description | None = None


def images_of(study: Study) -> Images:
    """Return the shape of the study's prepared images, and their number of classes."""
    dataset = Description.read(nodes.fetch(study.study).folder / "dataset.json")
    return Images(dataset.image_shape, dataset.num_classes, dataset)


def naming_key(key: str, make: Callable[[], Named]) -> Named:
    """Return what ``make`` returns; its errors name the key of the study that they are about."""
    try:
        return make()
    except MoonshineError as error:
        raise (error if str(error).startswith(key) else MoonshineError(f"{key}: {error}")) from None


def teacher_structure(study: Study, images: Images) -> StudyStructure:
    """Return the structure of the teacher; its taps are given, the ends of a built-in network's stages, or discovered.

    MoonshineError naming the key for a network that cannot be built, does not take the images or return logits for
    their classes, or in which nothing can be replaced, and for taps that it lacks.
    """
    return naming_key("teacher", lambda: _teacher(study, images))


def _teacher(study: Study, images: Images) -> StudyStructure:
    teacher = study.teacher
    taps: Sequence[str] | None = teacher.taps
    module: nn.Module
    if is_model(teacher.name):
        structure, module, layout = describe_network(study, teacher.name, images)
        if not layout.places:
            raise nothing_to_replace(teacher.name, "a cheap block", layout.kept)
        taps = taps or discover_taps(module, images.shape, layout)
    else:
        structure = to_structure(teacher.name, "S", images.classes, images.shape[0])
        module = from_structure(structure, study.trusted)
        taps = taps or module.taps  # type: ignore[assignment]
    tap_sizes(module, taps or (), images.shape)
    return of_study(study, structure.with_blocks({}, block="S"), taps or (), images)


def describe_network(
    study: Study, network: str, images: Images, kwargs: Mapping[str, Any] | None = None
) -> Described:
    """Lay out a third-party model with the teacher's patterns, which takes seconds where images are large.

    ``kwargs`` None: those of the teacher, if it is the teacher's network.
    """
    teacher = study.teacher
    if kwargs is None:
        kwargs = teacher.kwargs if network == teacher.name else {}
    return describe_model(
        network,
        kwargs,
        images.classes,
        images.shape,
        teacher.include,
        teacher.exclude,
        dense=study.data.is_dense,
    )


def given_structure(
    study: Study,
    network: str,
    blocks: str | Mapping[str, str],
    images: Images,
    laid_out: Callable[[str], Described] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Structure:
    """Return the structure of a network with one block, or with blocks by pattern of its places.

    One block goes wherever it fits; of a third-party model, ``refused`` says why it does not elsewhere. ``laid_out`` is
    `describe_network` of this study where it is remembered, ``kwargs`` as there. MoonshineError where nothing fits, for
    patterns as of `spread`, and for a block that does not fit the place of its pattern.
    """
    if not is_model(network):
        return _named(to_structure(network, blocks, images.classes, images.shape[0]))
    structure, _, layout = laid_out(network) if laid_out else describe_network(study, network, images, kwargs)
    if not isinstance(blocks, str):
        changes = choose_each(layout, blocks, network)
        return _named(structure.with_blocks({each.place.path: str(each.plan.block) for each in changes}))
    changes, refused = choose(layout, blocks)
    block = str(parse_block(blocks))
    if not changes:
        raise nothing_to_replace(network, block, {**layout.kept, **refused})
    return structure.with_blocks({each.place.path: block for each in changes}, refused=refused, block=block)


def _named(structure: Structure) -> Structure:
    """Return a structure with the name of its only block, or `MIXED`."""
    kinds = set(structure.blocks.values())
    return structure.with_blocks({}, block=kinds.pop() if len(kinds) == 1 else MIXED)


def unsearched_structure(
    study: Study,
    name: str,
    images: Images,
    laid_out: Callable[[str], Described] | None = None,
    size: Callable[[nn.Module, str], float] | None = None,
) -> Structure:
    """Return the structure of a student that needs no search: a rival, or one whose blocks are given.

    ``laid_out`` as in `given_structure`, ``size`` as in `moonshine.search.rivals.rival`. Its errors name their key.
    """

    def make() -> Structure:
        settings = study.students[name].rival
        if settings and settings.scale and settings.budget:
            budgets = parse_budgets(settings.budget)
            found = rival(study.teacher.name, settings.scale, budgets, images.classes, images.shape, size)
            return given_structure(study, found, "S", images)
        network, blocks, kwargs = study.network_of(name), blocks_of(study, name), study.kwargs_of(name)
        if study.students[name].kwargs:
            return given_structure(study, network, blocks, images, kwargs=kwargs)
        return given_structure(study, network, blocks, images, laid_out)

    return naming_key(layout_key(study, name), make)


def of_study(study: Study, structure: Structure, taps: Sequence[str], images: Images) -> StudyStructure:
    """Return a structure with its taps, and its size at the study's input."""
    found = cost(from_structure(structure, study.trusted), images.shape)
    return StudyStructure(
        **{key: getattr(structure, key) for key in structure.model_fields_set},
        taps=tuple(taps),
        input_shape=images.shape,
        parameters=found.parameters,
        macs=found.macs,
        ops=found.ops,
    )
