"""restore: put a record's finished nodes among the results, and make both engines go on from there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError, first_few
from moonshine.files import read_json_list, write_bytes
from moonshine.networks.sources import sources
from moonshine_workflow.engines import locks
from moonshine_workflow.engines.handover import stamp_dvc, stamp_snakemake
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.records.checks import code_checksums
from moonshine_workflow.records.record import RECORDS, Record, find_record, read_record
from moonshine_workflow.records.unpack import node_files
from moonshine_workflow.report.markup import plural

WHOLE = ("augment", "teacher", "training", "ship")
LOCATION_KEYS = ("path", "root")
"""Keys of ``data`` that say where the data are on a machine, not which they are."""


def restore(name: str, records: Path = RECORDS) -> str:
    """Restore the finished nodes of a recorded study; return a sentence on what was done, and on the code of before.

    Finished are those with all outputs in the record. MoonshineError, before anything is written, where the record is
    unknown or damaged, params.yaml has another study or other settings, a result differs from the record's, or an
    engine runs; and where the data cannot be prepared as they were.
    """
    folder = find_record(name, records)
    record, study = read_record(folder), load_study()
    if study.study != name:
        raise MoonshineError(
            f"{nodes.PARAMS}: study: found '{study.study}'; expected '{name}'; cp studies/{name}.yaml {nodes.PARAMS}"
        )
    require_same_settings(record, study)
    files = node_files(record, folder)
    finished = [node for node in nodes.all_nodes(study) if _is_whole(node, files.get(node.name, {}))]
    contents = {path: content for node in finished for path, content in files[node.name].items()}
    require_no_other(contents, {node.timings for node in finished})
    locks.require_no_engine()
    _prepare_data(study, contents)
    for path, content in contents.items():
        if not path.exists():
            write_bytes(path, content)
    said = _declare(record, study, [node.name for node in finished])
    stamp_snakemake(finished)
    stamp_dvc(finished)
    trained = sum(node.trains for node in finished)
    left = len(nodes.trained(study)) - trained
    rest = f"; {left} {'is' if left == 1 else 'are'} left to train" if left else ""
    return f"restored {plural(trained, 'trained network')} of {name}{rest}. {said}"


def require_same_settings(record: Record, study: Study) -> None:
    """MoonshineError naming what a record and a study have set differently; either may have more students, say."""
    then, now = _settings(record.settings), _settings(study)
    if other := sorted(key for key in then.keys() & now.keys() if then[key] != now[key]):
        raise MoonshineError(f"{nodes.PARAMS}: {first_few(other, 5)}: found other values than the record's")
    for structure in record.structures.values():
        if structure.source_sha256 and structure.source_sha256 != sources(structure.network):
            raise MoonshineError(f"{structure.network}: its code differs from that of the record")


def _settings(study: Study) -> dict[str, Any]:
    """Return what results depend on, by key; of the data which they are, not where."""
    values = resolved_values(study)
    data = {key: value for key, value in values["data"].items() if key not in LOCATION_KEYS}
    entries = {
        f"{section}.{key}": value
        for section in ("students", "methods")
        for key, value in values[section].items()
    }
    return {"data": data, "ship": None, **{key: values[key] for key in values if key in WHOLE}, **entries}


def require_no_other(contents: Mapping[Path, bytes], timings: set[Path]) -> None:
    """MoonshineError naming files that are there with another content; timings differ on every machine."""
    other = [
        path
        for path, content in contents.items()
        if path not in timings and path.exists() and path.read_bytes() != content
    ]
    if other:
        raise MoonshineError(
            f"{len(other)} results differ from the record's: {first_few(other, 3)}; nothing was restored; remove "
            f"{nodes.RESULTS}/{other[0].parts[1]} to take the record's instead"
        )


def _is_whole(node: nodes.Node, files: Mapping[Path, bytes]) -> bool:
    # the data themselves are prepared again
    wanted = node.outputs[1:] if node.stage == "fetch" else node.outputs
    return all(path in files for path in wanted)


def _prepare_data(study: Study, contents: Mapping[Path, bytes]) -> None:
    """Prepare the data that a record describes, unless they are there."""
    from moonshine_workflow.training.prepared import load_prepared  # loads torch

    description = nodes.fetch(study.study).outputs[1]
    is_new = not description.exists()
    write_bytes(description, contents[description])
    try:
        load_prepared(study)
    except MoonshineError:
        if is_new:
            description.unlink()
        raise


def _declare(record: Record, study: Study, names: list[str]) -> str:
    """Add this use to the study's list of restamps, which the report shows; return what is said of the code."""
    made = [record.timings[name] for name in names if name in record.trained]
    commits = sorted({timing.commit or "" for timing in made})
    torch = sorted({timing.versions["torch"] for timing in made})
    by = f"Made by the code of {first_few((commit[:12] for commit in commits), 3)} with torch {', '.join(torch)}"
    said = f"{by}; {_compared(record)}, torch is {stage.versions()['torch']}."
    path = nodes.RESULTS / study.study / "restamps.json"
    uses = read_json_list(path) if path.is_file() else []
    uses += [use.content() for use in record.restamps if use.content() not in uses]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    uses.append({"when": now, "reason": said, "nodes": names, "restored": True})
    write_bytes(path, (json.dumps(uses, indent=1) + "\n").encode())
    return said


def _compared(record: Record) -> str:
    commit = stage.provenance()["commit"]
    if commit is None:
        return "whether the code here is the same is not known"
    try:
        now = code_checksums(Path(), commit, "the code here")
    except MoonshineError:  # with changes that no commit has
        return "the code here differs"
    return (
        f"the code here {'is the same' if all(then == now for then in record.code.values()) else 'differs'}"
    )
