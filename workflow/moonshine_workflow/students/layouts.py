"""Structures that need no search: the teacher's and one block everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

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
from moonshine.structures.structure import Structure, StudyStructure
from moonshine.substitution.layout import Layout
from moonshine.substitution.substitute import choose, nothing_to_replace
from moonshine.substitution.tap_discovery import discover_taps, tap_sizes
from moonshine_workflow.graph import nodes

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


def describe_network(study: Study, network: str, images: Images) -> Described:
    """Lay out a third-party model with the teacher's patterns, which takes seconds where images are large."""
    teacher = study.teacher
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


def uniform_structure(
    study: Study,
    network: str,
    block: str,
    images: Images,
    laid_out: Callable[[str], Described] | None = None,
) -> Structure:
    """Return the structure of a network with one block wherever it fits; ``refused`` says why it does not elsewhere.

    ``laid_out`` is `describe_network` of this study where it is remembered.
    """
    block = str(parse_block(block))
    if not is_model(network):
        return to_structure(network, block, images.classes, images.shape[0]).with_blocks({}, block=block)
    structure, _, layout = laid_out(network) if laid_out else describe_network(study, network, images)
    changes, refused = choose(layout, block)
    if not changes:
        raise nothing_to_replace(network, block, {**layout.kept, **refused})
    chosen = {change.place.path: block for change in changes}
    return structure.with_blocks(chosen, refused=refused, block=block)


def unsearched_structure(
    study: Study,
    name: str,
    images: Images,
    laid_out: Callable[[str], Described] | None = None,
    size: Callable[[nn.Module, str], float] | None = None,
) -> Structure:
    """Return the structure of a student that needs no search: a rival, or one block wherever it fits.

    ``laid_out`` as in `uniform_structure`, ``size`` as in `moonshine.search.rivals.rival`.
    """
    if settings := study.students[name].rival:
        budgets = parse_budgets(settings.budget)
        found = rival(study.teacher.name, settings.scale, budgets, images.classes, images.shape, size)
        return uniform_structure(study, found, "S", images)
    return uniform_structure(study, study.network_of(name), study.block_of(name), images, laid_out)


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
