"""check: validates a study beyond its schema: every network and block exists, fits, and suits the teacher.

Without torch, and so without building third-party models: what only its code knows is checked when its structure is
written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from moonshine.blocks.notation import Block
from moonshine.blocks.presets import choices
from moonshine.blocks.registry import parse_block, plan_block
from moonshine.config import Study, load_study
from moonshine.config.teacher import PUBLISHED
from moonshine.errors import MoonshineError
from moonshine.files import write_bytes
from moonshine.networks import families
from moonshine.networks.families import is_model
from moonshine.networks.sources import is_importable
from moonshine.search.rivals import rival_candidates
from moonshine.structures.build import Blocks, assign, sites
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.dvc_file import check_dvc_file
from moonshine_workflow.graph.library import (
    IN_CLONE,
    PACKAGE,
    PUBLISHED_ERRORS,
    check_module_names,
    published_file,
    refresh_library,
)
from moonshine_workflow.graph.mistakes import reports_mistakes
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.structures import blocks_of, layout_key

_Made = TypeVar("_Made")

CHECKED = nodes.RESULTS / "checked.txt"
_LABELS = {False: "one label for a whole picture", True: "a label for every pixel"}


def check_study(study: Study) -> None:
    """Lay out the teacher and every student; takes milliseconds, so everything that reads a study does it.

    Errors: ``MoonshineError`` naming the key of the study, the value found and what is allowed.
    """
    key = "teacher.model" if study.teacher.model else "teacher.network"
    teacher = _named(key, lambda: _layout(study.teacher.name, "S"))
    _suits_the_data(study, key, study.teacher.name)
    weights = study.teacher.weights
    if weights and weights != PUBLISHED and not Path(weights).expanduser().is_file():
        raise MoonshineError(
            f"teacher.weights: {weights} is no file; allowed: a file of weights, or torchvision for those it publishes"
        )
    published = study.report.published
    if published and not published_file(published).is_file():
        raise MoonshineError(
            f"report.published: {published} is no file; allowed: null, a CSV of yours, or one of the library's, "
            f"{PUBLISHED_ERRORS}/cifar10.csv"
        )
    for name, student in study.students.items():
        if mixed := student.mixed:
            _named(f"students.{name}.mixed.blocks", lambda: choices(mixed.blocks))
        if student.warm_start and not study.methods:
            raise MoonshineError(
                f"students.{name}.warm_start: starts a student from its teacher, and the study has no methods that use "
                "one; allowed: a method such as at"
            )
        if (rival := student.rival) and (scale := rival.scale):
            _named(f"students.{name}", lambda: rival_candidates(study.teacher.name, scale))
        is_solved = student.warm_start is not None and student.warm_start.fit == "least-squares"
        if mixed or rival:
            for block in choices(mixed.blocks) if mixed and is_solved else ():
                _can_be_solved(name, study.teacher.name, dict.fromkeys(teacher, block))
            continue
        network, key = study.network_of(name), layout_key(study, name)
        layout = _named(key, lambda: _layout(network, blocks_of(study, name)))  # noqa: B023
        _suits_the_data(study, f"students.{name}.network", network)
        if is_solved:
            _can_be_solved(name, network, layout)
        same = network == study.teacher.name and study.kwargs_of(name) == study.teacher.kwargs
        if layout == teacher and same and not student.compression:
            raise MoonshineError(
                f"{key}: {network} with ordinary blocks is the teacher itself; allowed: another block, or a smaller "
                "network"
            )
    _distinct(study)


def _can_be_solved(student: str, network: str, layout: Mapping[str, str | Block]) -> None:
    """MoonshineError for a block that least squares cannot solve; places of a third-party model are unknown here."""
    for site in () if is_model(network) else sites(network):
        block = parse_block(layout[site.path])
        try:
            solvable = block.kind == "S" or plan_block(block, site.convolutions).ends_in_1x1
        except MoonshineError:  # a search leaves it out there
            continue
        if not solvable:
            raise MoonshineError(
                f"students.{student}.warm_start.fit: found least-squares, which solves the 1x1 convolution that ends a "
                f"block, and {block} ends in none; allowed: steps"
            )


def _suits_the_data(study: Study, key: str, network: str) -> None:
    """MoonshineError unless a built-in network labels images or pixels as the data do, and takes the stated sizes."""
    if is_model(network):
        return
    family = families.parse_network(network).family
    if family.dense != study.data.is_dense:
        allowed = [each.allowed for each in families.FAMILIES.values() if each.dense == study.data.is_dense]
        raise MoonshineError(
            f"{key}: found {network}, which gives {_LABELS[family.dense]}, where data.name: {study.data.name} has "
            f"{_LABELS[study.data.is_dense]}; allowed: {'; '.join(allowed)}"
        )
    for size_key, size in _sizes(study).items():
        sides = [size] if isinstance(size, int) else size
        fitting = [-(-side // family.reduction) * family.reduction for side in sides]
        if fitting != sides:
            raise MoonshineError(
                f"{size_key}: found {size}; allowed for {network}: multiples of {family.reduction}, such as "
                f"{fitting[0] if isinstance(size, int) else fitting}"
            )


def _sizes(study: Study) -> dict[str, int | list[int]]:
    """Return the stated sizes of images with label maps, by key; none if the data keep their own size."""
    stated = {"data.size": getattr(study.data, "size", None), "augment.crop": study.augment.crop}
    return {key: size for key, size in stated.items() if size and study.data.is_dense}


def _distinct(study: Study) -> None:
    """Check that node names are distinct: parts are joined with '-', which keys may contain, and files would clash."""
    first: dict[str, Node] = {}
    for node in nodes.all_nodes(study):
        other = first.setdefault(node.name, node)
        if other != node:
            raise MoonshineError(
                f"students and methods: {_said(other)} and {_said(node)} are both "
                f"called {node.name}; allowed: keys that stay apart when joined by '-'"
            )


def _said(node: Node) -> str:
    return " with ".join(filter(None, (node.student, node.method)))


def _named(key: str, make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except MoonshineError as error:
        said = str(error).removeprefix(f"{key.rpartition(': ')[2]}: ")  # what reads a file names it too
        raise MoonshineError(f"{key}: {said}") from None


def _layout(network: str, blocks: Blocks) -> dict[str, Block]:
    """Return the block at every place; of a third-party model, whose places only its code knows, by pattern."""
    if not is_model(network):
        return assign(network, blocks)
    package = network.partition("/")[0] if "/" in network else network.partition(":")[0].partition(".")[0]
    if not package.isidentifier() or not is_importable(package):
        raise MoonshineError(
            f"model {network!r}: no Python package {package!r} is found from here; allowed: torchvision/<name>, "
            "timm/<name>, or <module>:<function> with the module on the Python path"
        )
    chosen = blocks if isinstance(blocks, Mapping) else {"*": blocks}
    return {pattern: parse_block(block) for pattern, block in chosen.items()}


def check_package() -> None:
    """MoonshineError in a clone whose commands would run another clone's package, as with a shared environment.

    DVC looks for changes in the clone's own code, but its commands run the package that Python finds.
    """
    here = IN_CLONE.resolve()
    if here.is_dir() and here != PACKAGE:
        raise MoonshineError(
            f"moonshine_workflow: found {PACKAGE}; allowed: {here}, which `make setup` installs into this clone's .venv"
        )


@reports_mistakes
def main() -> int:
    """DVC's first stage; it leaves the same file for every study that passes, so that nothing runs again for it."""
    check_package()
    check_module_names()
    check_dvc_file()
    refresh_library()
    check_study(load_study())
    write_bytes(CHECKED, b"params.yaml was checked before DVC used the names in it.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
