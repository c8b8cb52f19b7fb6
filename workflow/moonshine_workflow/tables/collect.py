"""Assembly of a study's tables from the results of all its nodes.

Only the paths that the study in ``params.yaml`` expects are read, so a removed block disappears from the report.
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
from moonshine_workflow.graph.library import published_file
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.tables.choice import rank_candidates
from moonshine_workflow.tables.latex import table_to_latex
from moonshine_workflow.tables.rows import (
    FINETUNED,
    Difference,
    Model,
    Run,
    StudentRow,
    Tables,
    rows_to_csv,
    table_columns,
    table_to_csv,
    to_csv,
)
from moonshine_workflow.tables.summary import differences, student_rows
from moonshine_workflow.training.configuration import changed

_CURVE_COLUMNS = ("epoch", "lr", "loss", "train_error_pct", "validation_error_pct", "validation_loss")
PUBLISHED_KEY = ("data", "teacher", "network", "block")
FROM_STRUCTURE = ("network", "block", "parameters", "macs")
FROM_COST = ("parameters", "macs", "ops", "peak_activation_bytes", "compression")

_Content = TypeVar("_Content", bound=JsonModel)


@dataclass(frozen=True)
class _Reader:
    """Reader of a study's files below ``root``; a missing file is None if ``partial``, else a MoonshineError."""

    root: Path
    partial: bool

    def typed(self, kind: type[_Content], path: Path) -> _Content | None:
        return kind.read(self.root / path) if self._exists(path) else None

    def history(self, path: Path) -> list[dict[str, str]]:
        return read_csv(self.root / path) if self._exists(path) else []

    def _exists(self, path: Path) -> bool:
        if (self.root / path).is_file():
            return True
        if self.partial:
            return False
        raise MoonshineError(
            f"{path}: missing; run the pipeline to the end (snakemake or dvc repro), "
            "or report what is finished with: moonshine report --partial"
        )


def _model(reader: _Reader, study: Study, student: str | None, cost: MeasuredCost | None) -> Model:
    node = nodes.structure(study.study, student) if student else nodes.teacher(study.study)
    structure = reader.typed(StudyStructure, node.folder / "structure.json")
    model = Model(student or "teacher", None, None)
    if structure:
        model = replace(model, **{name: getattr(structure, name) for name in FROM_STRUCTURE})
    if cost:
        model = replace(model, **{name: getattr(cost, name) for name in FROM_COST})
        model = replace(model, bytes_fp32=cost.bytes["fp32"], bytes_bf16=cost.bytes["bf16"])
    return model


def _run(reader: _Reader, study: Study, node: nodes.Node, model: Model) -> Run:
    path = node.folder / "metrics.json"
    found = reader.typed(Metrics, path)
    method = node.method or node.stage
    loss = study.methods[node.method].loss if node.method else node.stage
    if node.stage == "teacher" and study.teacher.finetune:
        loss = FINETUNED
    seed = study.teacher.seed if node.seed is None else node.seed
    if found is None:
        return Run(node.name, model.student, model.network, model.block, method, loss, seed, "missing")
    if found.node != node.name:
        raise MoonshineError(f"{path}: node is {found.node!r}; expected {node.name!r}")
    values = {
        f"{split}_{key}": value
        for split, score in (("train", found.train), ("validation", found.validation), ("test", found.test))
        for key, value in score or ()
    } | {
        name: getattr(found, name)
        for name in ("epochs_run", "parameters", "macs", "compressed_bytes", "warnings")
    }
    shown: dict[str, Any] = {each.name: values[each.name] for each in fields(Run) if each.name in values}
    return Run(
        node.name, model.student, found.network, found.block, method, loss, seed, found.status, **shown
    )


def published_errors(
    path: Path | None, study: Study, models: Sequence[Model], terms: Mapping[str, str]
) -> dict[tuple[str, str], float]:
    """Return published errors in percent by (student, method), for the same data, teacher, network, block and losses.

    No published method uses a warm start or compresses, so such students have no published error; neither has a student
    whose network has other arguments than the teacher's, which the file does not name.
    Raises MoonshineError if the file or a column is missing, two rows describe one network, or a value is no number.
    """
    if path is None:
        return {}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for row in read_csv(path):
        for column in PUBLISHED_KEY:
            if row.get(column) is None:
                raise MoonshineError(
                    f"{path}: the column '{column}' is missing; docs/params.md has the format"
                )
        key = tuple(row[column] for column in PUBLISHED_KEY)
        if key in rows:
            raise MoonshineError(f"{path}: found two rows for {', '.join(key)}; allowed: one")
        rows[key] = row
    found = {}
    for model in models:
        key = (study.data.name, study.teacher.name, model.network or "", model.block or "")
        student = study.students.get(model.student)
        warm = student is not None and student.warm_start is not None
        if student and student.compression:
            continue
        if student and student.kwargs and study.kwargs_of(model.student) != study.teacher.kwargs:
            continue
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
    """Return the text of every file that the stage writes, by its path below ``results/<study>``.

    ``root`` is the repository. A missing result raises MoonshineError, or is listed as missing if ``partial``.
    """
    reader = _Reader(root, partial)
    students = (None, *study.students)
    costs = {
        student: reader.typed(MeasuredCost, nodes.measure(study.study, student).outputs[0])
        for student in students
    }
    models = {student: _model(reader, study, student, costs[student]) for student in students}
    runs: list[Run] = []
    curves: list[list[object]] = []
    for node in nodes.trained(study):
        run = _run(reader, study, node, models[node.student])
        runs.append(run)
        for row in reader.history(node.folder / "history.csv"):
            curves.append(
                [run.student, run.method, run.seed, *(row.get(name, "") for name in _CURVE_COLUMNS)]
            )

    path = study.report.published
    losses = {name: method.loss for name, method in study.methods.items()}
    terms = {"scratch": "scratch"} | losses
    published = published_errors(
        root / published_file(path) if path else None, study, list(models.values()), terms
    )
    rows = student_rows(list(models.values()), runs, published)
    effects = differences(runs, losses, published)
    sizes = {models[student].student: cost.by_measure() for student, cost in costs.items() if cost}
    choice = rank_candidates(study.ship, list(models.values()), runs, sizes)
    tables = Tables(runs=tuple(runs), rows=tuple(rows), differences=tuple(effects))
    return {
        "tables/runs.csv": rows_to_csv(Run, runs),
        "tables/table.csv": table_to_csv(rows, table_columns(rows, list(terms))),
        "tables/table.tex": table_to_latex(rows, table_columns(rows, list(terms))),
        "tables/differences.csv": rows_to_csv(Difference, effects),
        "tables/curves.csv": to_csv(("student", "method", "seed", *_CURVE_COLUMNS), curves),
        f"tables/{nodes.TABLES}": tables.text(),
        "metrics.json": json.dumps(_metrics(rows, effects), indent=2) + "\n",
        "choice.json": json.dumps(choice.content(), indent=2) + "\n",
    }


def _metrics(rows: Sequence[StudentRow], effects: Sequence[Difference]) -> dict[str, Any]:
    """Return the numbers for ``dvc metrics show``: mean test errors in percent, pooled differences in points."""
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


def write_tables(files: Mapping[str, str], folder: Path) -> None:
    """Write the files that `collect` returns below ``folder``, each atomically."""
    for name, text in files.items():
        write_bytes(folder / name, text.encode())


def check_configurations(study: Study) -> None:
    """Raise MoonshineError if a node was trained with a configuration other than the study's present one."""
    for node in nodes.trained(study):
        path = node.folder / "config.json"
        if other := changed(study, node, read_json(path)):
            raise MoonshineError(
                f"{path}: {node.name} was trained with other values of {', '.join(other)} than params.yaml has now; "
                f"remove {node.folder} and run the pipeline again"
            )
