"""Measurements behind a plan, cached: latencies of blocks at their places, sizes of exported files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from moonshine.costs.cache import cached
from moonshine.formats.about import About
from moonshine.formats.sizes import exported_bytes
from moonshine.networks.models import Trust
from moonshine.search.place_latency import Latencies, measure_latencies
from moonshine.search.space import Space
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure

Tell = Callable[[str], None]
"""Called with a line before each measurement."""


def tell_nobody(line: str) -> None:
    """Tell nobody."""


def latencies(space: Space, threads: int, again: bool = False, tell: Tell = tell_nobody) -> Latencies:
    """Return the latency of every block at every place, measured once on this machine and cached, if reliable.

    ``again`` measures anew; so does a network that no name builds, which cannot be recognised.
    """
    about = {
        "what": "place latencies and their spread",
        "structure": space.structure.content(),
        "fitting": {path: list(blocks) for path, blocks in space.fitting.items()},
        "input_shape": list(space.input_shape),
        "threads": threads,
    }

    def measure() -> dict[str, Any]:
        tell(f"Measuring the latency of {len(space.blocks)} blocks (once on this machine)")
        return asdict(measure_latencies(space, threads=threads))

    def is_reliable(found: dict[str, Any]) -> bool:
        return not Latencies(**found).unreliable

    if space.module is not None:
        return Latencies(**measure())
    return Latencies(**cached(about, measure, worth_keeping=is_reliable, again=again))


AboutOf = Callable[[Structure], About]
"""Structure -> what its exported files say about it."""


def exporter(
    space: Space, about_of: AboutOf | None = None, tell: Tell = tell_nobody
) -> Callable[[Mapping[str, str], str], int]:
    """Return a function of blocks by place and a format: the bytes of the untrained network's file, as `exported`."""

    def export(blocks: Mapping[str, str], format: str) -> int:
        structure = space.structure.with_blocks(blocks)
        if space.module is not None:
            tell(f"Exporting {_named(blocks)} as {format}")
            return exported_bytes(format, space.build(blocks), space.input_shape)
        return exported(structure, format, space.input_shape, space.trust, about_of, tell)

    return export


def exported(
    structure: Structure,
    format: str,
    shape: tuple[int, ...],
    trust: Trust,
    about_of: AboutOf | None = None,
    tell: Tell = tell_nobody,
) -> int:
    """Export the untrained network of a structure and return the bytes of the file, cached.

    To the byte those of the trained network's file where ``about_of`` its structure is what that file will say.
    """
    about = about_of(structure) if about_of else None
    key = {
        "what": "exported bytes",
        "structure": structure.content(),
        "input_shape": list(shape),
        "format": format,
        **({"about": about.values()} if about else {}),
    }

    def measure() -> dict[str, int]:
        tell(f"Exporting {_named(structure.blocks)} as {format}")
        return {"bytes": exported_bytes(format, from_structure(structure, trust), shape, about)}

    return int(cached(key, measure)["bytes"])


def _named(blocks: Mapping[str, str]) -> str:
    kinds = sorted(set(blocks.values())) or ["the network"]
    return f"{', '.join(kinds[:4])}{', ...' if len(kinds) > 4 else ''}"
