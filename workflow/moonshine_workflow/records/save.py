"""Writing a record from the results of a study."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from moonshine.config import Study, load_study
from moonshine.costs.measured import MeasuredCost
from moonshine.data.description import Description
from moonshine.errors import MoonshineError
from moonshine.files import read_json, read_json_list, sha256, write_bytes
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import PUBLISHED_ERRORS
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.records.checks import (
    DIRTY,
    code_checksums,
    require_anonymous,
    require_inputs,
    require_this_study,
)
from moonshine_workflow.records.record import (
    FILE,
    FORMAT,
    RECEIPTS,
    RECORDS,
    WEIGHTS,
    NodeTiming,
    Record,
    Restamp,
    Trained,
    weights_file,
)
from moonshine_workflow.tables.shipped import Shipped, read_shipped

LIMIT = 4_000_000
"""How many bytes of weights a record holds."""


def save_record(name: str, root: Path, records: Path = RECORDS, limit: int = LIMIT) -> Record:
    """Write what is finished of a study's results in the repository ``root`` to ``records/<name>``; return the record.

    Weights: of a finished study those of the teacher and of what ships; of an unfinished one those of its finished
    nodes, the teacher first, as far as they fit into ``limit`` bytes. MoonshineError, before anything is written, for
    results of another study, and those of which `moonshine_workflow.records.checks` says that they cannot be recorded.
    """
    study = load_study(root / nodes.PARAMS)
    if study.study != name:
        raise MoonshineError(f"{root / nodes.PARAMS}: study: found '{study.study}'; expected '{name}'")
    published = study.report.published
    if published and Path(published).parent != PUBLISHED_ERRORS:
        raise MoonshineError(
            f"report.published: found {published}; allowed in a record: null, or a CSV in {PUBLISHED_ERRORS}"
        )
    done = [node for node in nodes.trained(study) if _is_done(node, root)]
    if not done:
        raise MoonshineError(f"{root / nodes.RESULTS / name}: found no trained network; run the study first")
    absolute = root.resolve()
    with chdir(root):  # a study names files from its own folder
        record = _record(study, absolute, done, limit)
    folder = records / name
    timings = (read_json(root / node.timings) for node in done)
    require_anonymous(folder / FILE, record, {timing["host"] for timing in timings if "host" in timing})
    for node in done:
        if node.name in record.kept:
            write_bytes(weights_file(folder, node.name), (root / node.outputs[0]).read_bytes())
    record.write(folder / FILE)
    for path in (folder / WEIGHTS).glob("*"):
        if path.stem not in record.kept:
            path.unlink()
    return record


def _is_done(node: nodes.Node, root: Path) -> bool:
    return all((root / path).exists() for path in node.outputs)


def _record(study: Study, root: Path, done: Sequence[nodes.Node], limit: int) -> Record:
    dataset = Description.read(root / nodes.fetch(study.study).outputs[1])
    configs = {node.name: read_json(root / node.folder / "config.json") for node in done}
    first, *others = configs.values()
    shared = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    students = (None, *study.students)
    layouts = {student or "teacher": nodes.structure(study.study, student) for student in students}
    measured = {student or "teacher": nodes.measure(study.study, student) for student in students}
    structures = {
        name: StudyStructure.read(root / node.outputs[0])
        for name, node in layouts.items()
        if _is_done(node, root)
    }
    trained, timings, code = {}, {}, {}
    for node in nodes.all_nodes(study):
        if (root / node.timings).is_file() and node.stage != "report":
            timings[node.name] = NodeTiming.read(root / node.timings)
    teacher = root / nodes.teacher(study.study).outputs[0]
    for node in done:
        of, folder, config = node.student or "teacher", root / node.folder, configs[node.name]
        metrics = Metrics.read(folder / "metrics.json")
        require_this_study(study, node, folder, metrics, config)
        require_inputs(folder / "config.json", config, dataset.sha256[nodes.DATA_FILES[0]], teacher)
        structure = StudyStructure.read(folder / "structure.json")
        given = {"start": structure.start} if node.stage == "teacher" and structure.start else {}
        if structure != structures[of].model_copy(update=given):
            raise MoonshineError(
                f"{folder / 'structure.json'}: not that of the student, {layouts[of].outputs[0]}"
            )
        commit = timings[node.name].commit if node.name in timings else None
        if commit is None:
            raise MoonshineError(
                f"{root / node.timings}: names no commit, so nobody knows which code {node.name} ran"
            )
        code[commit.removesuffix(DIRTY)] = code_checksums(root, commit, node.name)
        trained[node.name] = Trained(
            metrics=metrics,
            config={key: value for key, value in config.items() if key not in shared},
            history=tuple((folder / "history.csv").read_text(encoding="utf-8").splitlines()),
            weights=sha256(root / node.outputs[0]),
            **given,
        )
    export = root / nodes.export(study.study).outputs[0]
    shipped = read_shipped(export)
    finished = all(
        _is_done(node, root) for node in nodes.all_nodes(study) if node.stage not in ("fetch", "report")
    )
    wanted = [node for node in done if node.stage == "teacher" or _ships(node, shipped)] if finished else done
    optional: dict[str, Any] = {"shipped": shipped} if shipped else {}
    if (export / RECEIPTS).is_file():
        optional["receipts"] = read_json(export / RECEIPTS)
    if (restamps := root / nodes.RESULTS / study.study / "restamps.json").is_file():
        uses = read_json_list(restamps)
        optional["restamps"] = tuple(Restamp(**{**use, "nodes": tuple(use["nodes"])}) for use in uses)
    return Record(
        format=FORMAT,
        study=resolved_values(study),
        finished=finished,
        code=code,
        dataset=dataset,
        structures=structures,
        costs={
            name: MeasuredCost.read(root / node.outputs[0])
            for name, node in measured.items()
            if _is_done(node, root)
        },
        shared_config=shared,
        trained=trained,
        timings={
            name: timing.model_copy(update={"commit": timing.commit and timing.commit.removesuffix(DIRTY)})
            for name, timing in timings.items()
        },
        kept=_fitting(wanted, root, limit),
        **optional,
    )


def _ships(node: nodes.Node, shipped: Shipped | None) -> bool:
    chosen = shipped.chosen if shipped else None
    return chosen is not None and (node.student, node.method or "scratch", node.seed) == (
        chosen.student,
        chosen.method,
        chosen.seed,
    )


def _fitting(wanted: Sequence[nodes.Node], root: Path, limit: int) -> tuple[str, ...]:
    """Return the nodes whose weights fit; without its teacher nothing that was distilled can be restored."""
    kept: list[nodes.Node] = []
    for node in wanted:
        size = (root / node.outputs[0]).stat().st_size
        if size <= limit and (node.stage != "distil" or (kept and kept[0].stage == "teacher")):
            limit -= size
            kept.append(node)
    return tuple(node.name for node in kept)
