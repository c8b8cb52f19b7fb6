"""The results of one study as a report reads them: tables, dataset, timings and restamps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from moonshine.config.methods import Method
from moonshine.costs.budgets import MEASURES
from moonshine.data.description import Description
from moonshine.errors import MoonshineError
from moonshine.files import read_csv, read_json, read_json_list
from moonshine.structures.structure import MIXED
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import published_file
from moonshine_workflow.graph.parameters import study_of_job
from moonshine_workflow.tables.choice import ShippingChoice
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tables.rows import Difference, Run, StudentRow, Tables, table_columns
from moonshine_workflow.tables.shipped import Shipped, read_shipped


@dataclass(frozen=True)
class Results:
    """A study's results: ``root`` is the repository, ``folder`` its ``results/<study>``."""

    study: str
    root: Path
    folder: Path
    tables: Path
    partial: bool
    runs: tuple[Run, ...]
    rows: tuple[StudentRow, ...]
    differences: tuple[Difference, ...]
    dataset: Description | None

    @cached_property
    def curves(self) -> list[dict[str, str]]:
        """The rows of ``curves.csv``, as text."""
        return read_csv(self.tables / "curves.csv")

    @cached_property
    def timings(self) -> dict[str, dict[str, Any]]:
        """The timing files that exist for this study's nodes, by node; they are no part of the tables."""
        students = [None if row.model.student == "teacher" else row.model.student for row in self.rows]
        costs = [nodes.measure(self.study, student) for student in students]
        paths = {
            node.name: node.timings for node in (nodes.fetch(self.study), nodes.export(self.study), *costs)
        }
        folder = nodes.collect(self.study).timings.parent
        paths |= {run.node: folder / f"{run.node}.json" for run in self.runs}
        return {
            name: read_json(self.root / path) for name, path in paths.items() if (self.root / path).is_file()
        }

    @cached_property
    def compressed_bytes(self) -> dict[str, int]:
        """The bytes of ``network.dc`` by compressed student, the most among its runs."""
        found: dict[str, int] = {}
        for run in self.runs:
            if run.compressed_bytes is not None:
                found[run.student] = max(run.compressed_bytes, found.get(run.student, 0))
        return found

    def sizes(self, student: str) -> dict[str, float]:
        """Return what a student or ``teacher`` takes in each measure that a budget may limit, as far as it is known.

        Latencies are those of this study's timings at batch 1, unless a budget limits them.
        """
        model = next(row.model for row in self.rows if row.model.student == student)
        node = nodes.measure(self.study, None if student == "teacher" else student).name
        candidate = next((each for each in self.choice.candidates if each.student == student), None)
        found = {
            "parameters": model.parameters,
            "macs": model.macs,
            "fp32": model.bytes_fp32,
            "peak": model.peak_activation_bytes,
            "latency": self.timings.get(node, {}).get("latency_ms", {}).get("1"),
            "dc": self.compressed_bytes.get(student),
            **(candidate.sizes if candidate else self.choice.teacher_sizes if student == "teacher" else {}),
        }
        return {measure: value for measure in MEASURES if (value := found.get(measure))}

    @cached_property
    def choice(self) -> ShippingChoice:
        """Ranking of the students that may ship."""
        return ShippingChoice.read(self.tables.parent / "choice.json")

    @cached_property
    def shipped(self) -> Shipped | None:
        """Record of the export; None where nothing was exported yet."""
        return read_shipped(self.folder / "export")

    @cached_property
    def receipts(self) -> dict[str, Any]:
        """The test errors of the shipped network and of its files; empty where nothing ships."""
        path = self.folder / "export" / "receipts.json"
        return read_json(path) if path.is_file() else {}

    @property
    def holds_exports(self) -> bool:
        """Whether the exported files are there; a record has no more than their receipts."""
        return all((self.folder / "export" / each["file"]).is_file() for each in self.receipts["receipts"])

    @cached_property
    def restamps(self) -> list[dict[str, Any]]:
        """Uses of the command that declares results valid after a change of code."""
        path = self.folder / "restamps.json"
        return read_json_list(path) if path.is_file() else []

    def config(self, run: Run) -> dict[str, Any]:
        """Return the resolved configuration of a run; empty where it has not been trained."""
        named = {
            "teacher": nodes.teacher(self.study),
            "scratch": nodes.scratch(self.study, run.student, run.seed),
        }
        node = named.get(run.method) or nodes.distil(self.study, run.student, run.method, run.seed)
        path = self.root / node.folder / "config.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def published_file(self) -> str | None:
        """The CSV of published errors that the study names."""
        study = study_of_job(self.root)
        return study.report.published if study.study == self.study else None

    @cached_property
    def published_source(self) -> list[str]:
        """Comments of that file on its source, where the table shows errors from it."""
        if self.published_file is None or not any(
            error.published is not None for row in self.rows for error in row.errors.values()
        ):
            return []
        lines = (self.root / published_file(self.published_file)).read_text(encoding="utf-8").splitlines()
        return [line.lstrip("# ") for line in lines if line.startswith("#")]

    @property
    def unpublished(self) -> dict[str, list[str]]:
        """Methods without a published error, by student (or teacher)."""
        found = {
            row.model.student: [name for name, error in row.errors.items() if error.published is None]
            for row in self.rows
        }
        return {student: methods for student, methods in found.items() if methods}

    @cached_property
    def labels(self) -> dict[str, str]:
        """A short name of each student for figures: its block, its network where that is ordinary, or its key."""
        teacher = next((row.model.network for row in self.rows if row.model.student == "teacher"), None)
        names = {}
        for row in self.rows:
            model = row.model
            block = None if model.block == "S" else model.block
            network = None if model.network == teacher and block else model.network
            said = model.student if block == MIXED else " ".join(filter(None, (network, block)))
            names[model.student] = said or model.student
        twice = {name for name in names.values() if list(names.values()).count(name) > 1}
        return {student: student if name in twice else name for student, name in names.items()}

    @property
    def is_dense(self) -> bool:
        """Whether every pixel has a label, so that an error is 100 - mIoU."""
        return self.dataset is not None and self.dataset.scored_classes is not None

    @property
    def error_name(self) -> str:
        """Name of the test error on axes and in tables."""
        return "100 − mIoU (%), test" if self.is_dense else "Test error (%)"

    @property
    def methods(self) -> list[str]:
        """Scratch and the methods, in the order of the study."""
        return list(dict.fromkeys(run.method for run in self.runs if run.student != "teacher"))

    @property
    def seeds(self) -> list[int]:
        """The seeds of the students."""
        return sorted({run.seed for run in self.runs if run.student != "teacher"})

    @property
    def columns(self) -> list[str]:
        """The columns of errors in the main table."""
        return table_columns(self.rows, self.methods)

    @property
    def compared_with_scratch(self) -> list[str]:
        """The methods, attention transfer first."""
        return list(
            dict.fromkeys(effect.method for effect in self.differences if effect.baseline == "scratch")
        )

    def spoken(self, method: str, is_short: bool = False) -> str:
        """A method in words, those of its term's title in the schema; a key that is not plainly its loss is quoted."""
        losses, fields = self.terms.get(method), Method.model_fields
        if method == losses == "scratch":
            return "training from scratch"
        title = fields[method].title if method == losses and method in fields else None
        if not title:
            return f"“{method}”"
        return title.partition("(")[2].rstrip(")") if is_short and "(" in title else title

    @property
    def looks(self) -> dict[str, int]:
        """Style of each method in figures: the same in every report, whatever the order of keys."""
        usual = ("scratch", "kd", "at", "kd+at")
        found: dict[str, int] = {}
        for method in self.methods:
            losses = self.terms[method]
            position = usual.index(losses) if losses in usual else len(usual)
            while position in found.values():
                position = max(position + 1, len(usual))
            found[method] = position
        return found

    @property
    def terms(self) -> dict[str, str]:
        """The losses of each method."""
        return {run.method: run.terms for run in self.runs if run.student != "teacher"}

    def count(self, status: str) -> list[Run]:
        """Return the runs that are ``completed``, ``diverged`` or ``missing``."""
        return [run for run in self.runs if run.status == status]


def repository() -> Path:
    """Return the nearest folder from here upwards with a ``params.yaml``."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "params.yaml").is_file():
            return folder
    raise MoonshineError(f"{here}: neither this folder nor one above it has a params.yaml")


def load_results(study: str, root: Path | str | None = None, *, partial: bool = False) -> Results:
    """Read the results of a study in the repository ``root`` (None: the one around the working folder).

    ``partial`` collects what is there now, into the study's working folder, and leaves its tables alone.
    Errors: ``MoonshineError`` naming the table that is missing or not readable.
    """
    base = repository() if root is None else Path(root)
    folder = base / nodes.RESULTS / study
    tables = folder / "tables"
    if partial:
        configured = study_of_job(base)
        if configured.study != study:
            raise MoonshineError(f"params.yaml: study is '{configured.study}'; expected '{study}'")
        work = base / nodes.report(study).work
        write_tables(collect(configured, base, partial=True), work)
        tables = work / "tables"
    dataset = folder / "data" / "dataset.json"
    found = Tables.read(tables / nodes.TABLES)
    return Results(
        study,
        base,
        folder,
        tables,
        partial,
        found.runs,
        found.rows,
        found.differences,
        None if partial and not dataset.is_file() else Description.read(dataset),
    )
