"""Measurements behind a plan: latencies of blocks at their places and sizes of files, cached; a study's students."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from moonshine.blocks.layers import folded_weights
from moonshine.blocks.registry import parse_block
from moonshine.config import Study
from moonshine.costs.budgets import EXPORTED, Budget
from moonshine.costs.cache import cached
from moonshine.formats.sizes import exported_bytes
from moonshine.networks.models import Trust
from moonshine.search.place_latency import Latencies, measure_latencies
from moonshine.search.planning import MEASURED, Option
from moonshine.search.space import Space
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure
from moonshine_workflow.students.layouts import Images, unsearched_structure
from moonshine_workflow.students.sizes import about_of, measured_values

DESCRIBED = {"mean", "std", "class_names", "resize_rule", "scored_classes"}
"""Fields of the data's description that exported files contain."""


def latencies(space: Space, threads: int, again: bool = False) -> Latencies:
    """Return the latency of every block at every place, measured once on this machine and cached, if reliable.

    ``again`` measures anew.
    """
    about = {
        "what": "place latencies and their spread",
        "structure": space.structure.content(),
        "fitting": {path: list(blocks) for path, blocks in space.fitting.items()},
        "input_shape": list(space.input_shape),
        "threads": threads,
    }

    def measure() -> dict[str, object]:
        print(f"Measuring the latency of {len(space.blocks)} blocks (once on this machine)", file=sys.stderr)
        return asdict(measure_latencies(space, threads=threads))

    def is_reliable(found: dict[str, Any]) -> bool:
        return not Latencies(**found).unreliable

    return Latencies(**cached(about, measure, worth_keeping=is_reliable, again=again))


def exporter(space: Space, images: Images | None = None) -> Callable[[Mapping[str, str], str], int]:
    """Return a function of blocks by place and a format: the bytes of the untrained network's file, as `exported`."""

    def export(blocks: Mapping[str, str], format: str) -> int:
        structure = space.structure.with_blocks(blocks)
        return exported(structure, format, space.input_shape, space.trust, images)

    return export


def exported(
    structure: Structure, format: str, shape: tuple[int, ...], trust: Trust, images: Images | None
) -> int:
    """Export the untrained network of a structure and return the bytes of the file, cached.

    To the byte those of the trained network's file where ``images`` are a study's prepared data, which it describes.
    """
    dataset = images.dataset if images else None
    described = dataset.model_dump(mode="json", include=DESCRIBED, exclude_unset=True) if dataset else {}
    key = {
        "what": "exported bytes",
        "structure": structure.content(),
        "input_shape": list(shape),
        "format": format,
        **described,
    }

    def measure() -> dict[str, int]:
        kinds = sorted(set(structure.blocks.values()))
        print(
            f"Exporting {', '.join(kinds[:4])}{', ...' if len(kinds) > 4 else ''} as {format}",
            file=sys.stderr,
        )
        about = about_of(images, structure) if images and dataset else None
        return {"bytes": exported_bytes(format, from_structure(structure, trust), shape, about)}

    return int(cached(key, measure)["bytes"])


def given_students(
    study: Study, images: Images, listed: Sequence[str], budgets: Sequence[Budget], threads: int
) -> tuple[tuple[Option, ...], tuple[str, ...]]:
    """Return the students whose blocks or network the study gives, and which of them have generated weights.

    Each is measured as a whole. Without those that have one of the blocks ``listed`` everywhere in the teacher's
    network, which a plan shows anyway.
    """
    files = [budget.measure for budget in budgets if budget.measure in EXPORTED]
    given, generated = [], []
    for name, student in study.students.items():
        is_listed = student.network is None and student.block and str(parse_block(student.block)) in listed
        if student.mixed or student.rival or is_listed:
            continue
        structure = unsearched_structure(study, name, images)
        network = from_structure(structure, study.trusted)
        values = measured_values(network, images, structure, (*MEASURED, "latency"), threads)
        values |= {each: exported(structure, each, images.shape, study.trusted, images) for each in files}
        fits = all(budget.allows(values[budget.measure]) for budget in budgets)
        given.append(Option(name, structure.blocks, values, fits))
        generated += [name] if folded_weights(network) else []
    return tuple(given), tuple(generated)
