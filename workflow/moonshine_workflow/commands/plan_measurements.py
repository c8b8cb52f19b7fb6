"""Measurements behind a plan, cached: latencies of blocks at their places, sizes of exported files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from moonshine.costs.cache import cached
from moonshine.formats.sizes import exported_bytes
from moonshine.search.place_latency import Latencies, measure_latencies
from moonshine.search.space import Space
from moonshine_workflow.students.layouts import Images
from moonshine_workflow.students.sizes import about_of

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
    """Return a function that exports the untrained network with given blocks and returns the bytes of the file.

    To the byte those of the trained network's file where ``images`` of the study are given, which the file describes.
    """
    dataset = images.dataset if images else None
    described = dataset.model_dump(mode="json", include=DESCRIBED, exclude_unset=True) if dataset else {}

    def export(blocks: Mapping[str, str], format: str) -> int:
        structure = space.structure.with_blocks(blocks)
        key = {
            "what": "exported bytes",
            "structure": structure.content(),
            "input_shape": list(space.input_shape),
            "format": format,
            **described,
        }

        def measure() -> dict[str, int]:
            kinds = sorted(set(blocks.values()))
            print(
                f"Exporting {', '.join(kinds[:4])}{', ...' if len(kinds) > 4 else ''} as {format}",
                file=sys.stderr,
            )
            about = about_of(images, structure) if images else None
            return {"bytes": exported_bytes(format, space.build(blocks), space.input_shape, about)}

        return int(cached(key, measure)["bytes"])

    return export
