"""Assembly of a study's tables from the results of all of its nodes.

Reads exactly the paths that the study in ``params.yaml`` expects, so a removed block leaves the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from moonshine.config import Study
from moonshine.costs.measured import MeasuredCost
from moonshine.errors import MoonshineError
from moonshine.files import read_csv, read_json, write_bytes
from moonshine.json_model import JsonModel
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.tables.choice import choose
from moonshine_workflow.tables.latex import table_to_latex
from moonshine_workflow.tables.records import (
    Difference,
    Model,
    Run,
    StudentRow,
    Tables,
    columns,
    rows_to_csv,
    table_to_csv,
    to_csv,
)
from moonshine_workflow.tables.summary import differences, student_rows
from moonshine_workflow.training.configuration import changed

CURVES = ("epoch", "lr", "loss", "train_error_pct", "validation_error_pct", "validation_loss")
IDENTITY = ("data", "teacher", "network", "block")
COSTS = ("parameters", "macs", "ops", "peak_activation_bytes", "compression")

Content = TypeVar("Content", bound=JsonModel)


@dataclass(frozen=True)
class _Reader:
    """Reads the files of a study below ``root``; in a partial report an absent one is None, else an error."""

    root: Path
    partial: bool

    def typed(self, kind: type[Content], path: Path) -> Content | None:
        return kind.read(self.root / path) if self._there(path) else None

    def history(self, path: Path) -> list[dict[str, str]]:
        return read_csv(self.root / path) if self._there(path) else []

    def _there(self, path: Path) -> bool:
        if (self.root / path).is_file():
            return True
        if self.partial:
            return False
        raise MoonshineError(
            f"{path}: missing; run the pipeline to the end (snakemake or dvc repro), "
            "or render what there is with: moonshine report --partial"
        )


def _model(student: str, structure: StudyStructure | None, cost: MeasuredCost | None) -> Model:
    named = Model(student, None, None)
    if structure:
        named = Model(student, structure.network, structure.block, structure.parameters, structure.macs)
    if cost is None:
        return named
    measured: dict[str, Any] = {name: getattr(cost, name) for name in COSTS}
    return replace(named, **measured, bytes_fp32=cost.bytes["fp32"], bytes_bf16=cost.bytes["bf16"])


def _run(reader: _Reader, node: nodes.Node, model: Model, method: str, terms: str, seed: int) -> Run:
    path = node.folder / "metrics.json"
    found = reader.typed(Metrics, path)
    if found is None:
        return Run(node.name, model.student, model.network, model.block, method, terms, seed, "missing")
    if found.node != node.name:
        raise MoonshineError(f"{path}: node is {found.node!r}; expected {node.name!r}")
    known = {each.name for each in fields(Run)}
    scores: dict[str, Any] = {
        f"{split}_{key}": value
        for split, score in (("train", found.train), ("validation", found.validation), ("test", found.test))
        for key, value in score or ()
        if f"{split}_{key}" in known
    }
    return Run(
        node.name,
        model.student,
        found.network,
        found.block,
        method,
        terms,
        seed,
        found.status,
        epochs_run=found.epochs_run,
        parameters=found.parameters,
        macs=found.macs,
        warnings=found.warnings,
        **scores,
    )


def published_errors(
    path: Path | None, study: Study, models: Sequence[Model], terms: Mapping[str, str]
) -> dict[tuple[str, str], float]:
    """Published errors in percent by (student, method): of the same data, teacher, network, block and losses.

    A warm start is no part of any published method, so what was distilled from one has no figure beside it.
    Errors: ``MoonshineError`` when the file is missing, a column is, two rows are of one network, or an error is no
    number.
    """
    if path is None:
        return {}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in read_csv(path):
        for column in IDENTITY:
            if row.get(column) is None:
                raise MoonshineError(
                    f"{path}: the column '{column}' is missing; docs/params.md has the format"
                )
        key = tuple(row[column] for column in IDENTITY)
        if key in rows:
            raise MoonshineError(f"{path}: two rows are of {', '.join(key)}; allowed: one")
        rows[key] = row
    found = {}
    for model in models:
        key = (study.data.name, study.teacher.name, model.network or "", model.block or "")
        warm = model.student in study.students and study.students[model.student].warm_start is not None
        for method, losses in terms.items():
            column = f"{losses}_error_pct"
            if (value := rows.get(key, {}).get(column)) and not (warm and method != "scratch"):
                found[model.student, method] = _percent(value, f"{path}: {', '.join(key)}: {column}")
    return found


def _percent(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise MoonshineError(f"{what}: found '{text}'; allowed: an error in percent, or nothing")
    return value


def collect(study: Study, root: Path = Path(), *, partial: bool = False) -> dict[str, str]:
    """The text of every file that the stage writes, by its path below ``results/<study>``.

    ``root`` is the repository. ``partial`` lists what is missing as missing instead of raising
    ``MoonshineError``.
    """
    reader = _Reader(root, partial)
    terms = {"scratch": "scratch"} | {name: method.loss for name, method in study.methods.items()}
    models: list[Model] = []
    runs: list[Run] = []
    curves: list[list[object]] = []
    sizes: dict[str, Mapping[str, float]] = {}

    def add_model(student: str, structure: Path) -> None:
        named = None if student == "teacher" else student
        cost = reader.typed(MeasuredCost, nodes.measure(study.study, named).outputs[0])
        models.append(_model(student, reader.typed(StudyStructure, structure), cost))
        sizes[student] = cost.by_measure() if cost else {}

    def add_run(node: nodes.Node, method: str, seed: int) -> None:
        runs.append(_run(reader, node, models[-1], method, terms.get(method, method), seed))
        for row in reader.history(node.folder / "history.csv"):
            curves.append([models[-1].student, method, seed, *(row.get(name, "") for name in CURVES)])

    teacher = nodes.teacher(study.study)
    add_model("teacher", teacher.folder / "structure.json")
    add_run(teacher, "teacher", study.teacher.seed)
    for student in study.students:
        add_model(student, nodes.structure(study.study, student).outputs[0])
        for seed in study.seeds:
            add_run(nodes.scratch(study.study, student, seed), "scratch", seed)
            for method in study.methods:
                add_run(nodes.distil(study.study, student, method, seed), method, seed)

    path = study.report.published
    published = published_errors(root / path if path else None, study, models, terms)
    rows = student_rows(models, runs, published)
    losses = {name: value for name, value in terms.items() if name != "scratch"}
    effects = differences(runs, losses, published)
    choice = choose(study.ship, models[1:], runs, sizes)
    return {
        "tables/runs.csv": rows_to_csv(Run, runs),
        "tables/table.csv": table_to_csv(rows, columns(rows, list(terms))),
        "tables/table.tex": table_to_latex(rows, columns(rows, list(terms))),
        "tables/differences.csv": rows_to_csv(Difference, effects),
        "tables/curves.csv": to_csv(("student", "method", "seed", *CURVES), curves),
        f"tables/{nodes.TABLES}": Tables(
            runs=tuple(runs), rows=tuple(rows), differences=tuple(effects)
        ).text(),
        "metrics.json": json.dumps(_metrics(rows, effects), indent=2) + "\n",
        "choice.json": json.dumps(choice.content(), indent=2) + "\n",
    }


def _metrics(rows: Sequence[StudentRow], effects: Sequence[Difference]) -> dict[str, Any]:
    """The few numbers for ``dvc metrics show``: mean test errors in percent, pooled differences in points."""
    errors = {
        row.model.student: {
            method: round(error.mean, 4) for method, error in row.errors.items() if error.mean is not None
        }
        for row in rows
    }
    pooled = {}
    for effect in effects:
        if effect.scope == "pooled" and effect.mean is not None:
            values = {"mean": effect.mean, "half_width": effect.half_width}
            pooled[f"{effect.method}-{effect.baseline}"] = {
                name: round(value, 4) for name, value in values.items() if value is not None
            }
    teacher = errors.pop("teacher", {})
    return {
        "teacher": {"test_error_pct": next(iter(teacher.values()), None)},
        "test_error_pct": errors,
        "pooled_difference": pooled,
    }


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write the files of :func:`collect` below ``folder``, each of them atomically."""
    for name, text in files.items():
        write_bytes(folder / name, text.encode())


def require_same(study: Study) -> None:
    """MoonshineError for a trained node whose configuration is not the study's: params.yaml was another meanwhile."""
    for node in nodes.trained(study):
        path = node.folder / "config.json"
        if other := changed(study, node, read_json(path)):
            raise MoonshineError(
                f"{path}: {node.name} was trained with another {', '.join(other)} than params.yaml has; remove "
                f"{node.folder}, and run the pipeline again"
            )
