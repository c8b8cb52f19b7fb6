"""File dates for Snakemake, which compares only the inputs that are newer than a node's outputs.

It would miss a changed file with an old date, as from ``cp -p``, rsync, tar or a slow clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine_workflow.engines.checksums import Checksums
from moonshine_workflow.graph.nodes import Node

METADATA = Path(".snakemake") / "metadata"
LATER = 1.0


def refresh_dates(nodes: Iterable[Node]) -> list[str]:
    """Set the dates of inputs that differ from Snakemake's record of a node but look older; return these inputs.

    MoonshineError for a file whose date cannot be set.
    """
    recorded = _recorded(nodes)
    if not recorded:
        return []
    checksums = Checksums()
    dates: dict[str, float] = {}
    for node, inputs in recorded:
        changed = [
            path
            for path, checksum in inputs.items()
            if (now := checksums.of(path)) and f"sha256:{now}" != checksum
        ]
        made = [_date(path) for path in node.outputs if path.exists()]
        for path in changed if made else ():
            if os.stat(path).st_mtime <= min(made):
                # the clock may have been ahead when the outputs were made
                dates[path] = max(dates.get(path, time.time()), max(made) + LATER)
    for path, date in dates.items():
        try:
            os.utime(path, (date, date))
        except OSError as error:
            raise MoonshineError(
                f"{path}: has changed since results were made from it, but its date is older than theirs and cannot be "
                f"set ({error.strerror})"
            ) from None
        checksums.forget(path)
    checksums.keep()
    return sorted(dates)


def _date(output: Path) -> float:
    """Return the date of an output as Snakemake does: for a folder, that of a file which Snakemake keeps in it."""
    stamp = output / ".snakemake_timestamp"
    return (stamp if stamp.exists() else output).stat().st_mtime


def _recorded(nodes: Iterable[Node]) -> list[tuple[Node, Mapping[str, str]]]:
    """Return the nodes that Snakemake has made here, each with the checksums of its inputs."""
    if not METADATA.is_dir():
        return []
    from snakemake.persistence.file import FilePersistence

    records = FilePersistence(nolock=True)
    found = ((node, records._read_record(str(node.outputs[0]))) for node in nodes)
    return [(node, record.input_checksums) for node, record in found if record and record.input_checksums]
