"""Rows of a study's tables, as CSV, where an absent value is an empty cell, and as JSON, which the report reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from moonshine.json_model import JsonModel
from moonshine_workflow.tables.statistics import Verdict, margin_of_both, margin_of_test_set

UNTABLED = ("test_wrong", "test_image_errors")
"""Fields of a run that are too long for a table."""


@dataclass(frozen=True)
class Run:
    """One trained node: a row of ``runs.csv``; ``terms`` are its losses, such as ``kd+at``."""

    node: str
    student: str
    network: str | None
    block: str | None
    method: str
    terms: str
    seed: int
    status: str
    epochs_run: int | None = None
    parameters: int | None = None
    macs: int | None = None
    train_loss: float | None = None
    train_error_pct: float | None = None
    validation_loss: float | None = None
    validation_error_pct: float | None = None
    test_loss: float | None = None
    test_error_pct: float | None = None
    test_examples: int | None = None
    # Images: the share of which the five likeliest classes miss the label.
    test_top5_error_pct: float | None = None
    # Label maps, whose error is 100 - mIoU.
    test_miou_pct: float | None = None
    test_iou_pct: dict[str, float | None] = field(default_factory=dict)
    test_pixel_error_pct: float | None = None
    # Indices of the misclassified test images, such as "3 17".
    test_wrong: str | None = None
    # What each test image says of the error in percent, such as "31.2 40.1", where the error is no mean over them.
    test_image_errors: str | None = None
    # Of the teacher: what a reader must know of its errors, in sentences.
    warnings: str | None = None

    @property
    def column(self) -> str:
        """Column of the main table with its error: its method; ``scratch`` for a teacher that was trained here."""
        if self.method != "teacher":
            return self.method
        return "teacher" if self.epochs_run == 0 else "scratch"


@dataclass(frozen=True)
class Model:
    """A student and its costs; ``compression`` is the teacher's parameters over its own."""

    student: str
    network: str | None
    block: str | None
    parameters: int | None = None
    macs: int | None = None
    ops: int | None = None
    bytes_fp32: int | None = None
    bytes_bf16: int | None = None
    peak_activation_bytes: int | None = None
    compression: float | None = None


@dataclass(frozen=True)
class MethodError:
    """Test error of one method: ``n`` of ``seeds`` runs completed; ``test_se`` is the test set's standard error."""

    n: int
    seeds: int
    mean: float | None
    half_width: float | None
    test_se: float | None
    published: float | None = None


@dataclass(frozen=True)
class StudentRow:
    """One row of ``table.csv``, with errors by `Run.column`."""

    model: Model
    errors: dict[str, MethodError]

    @property
    def only_error(self) -> MethodError | None:
        """Error of a teacher, which has one column only."""
        return next(iter(self.errors.values()), None)

    @property
    def test_se(self) -> float | None:
        """Largest standard error of the test set among the methods."""
        found = (error.test_se for error in self.errors.values())
        return max((value for value in found if value is not None), default=None)


def columns(rows: Sequence[StudentRow], methods: Sequence[str]) -> list[str]:
    """Return the error columns of the main table: the methods, and ``teacher`` for a pretrained one."""
    return [*methods, *(["teacher"] if any("teacher" in row.errors for row in rows) else [])]


def look_alikes(rows: Sequence[StudentRow]) -> set[str]:
    """Return the students that share network and block with another, such as one with a warm start."""
    names = [(row.model.network, row.model.block) for row in rows]
    return {row.model.student for row, name in zip(rows, names, strict=True) if names.count(name) > 1}


@dataclass(frozen=True)
class Difference:
    """One row of ``differences.csv``: ``method`` minus ``baseline`` in points, paired by seed.

    ``scope`` is ``student`` or ``pooled``; ``students`` says how many went in. ``seeds`` have a pair, of
    ``expected_seeds``. ``jackknife_images`` says over how many images ``test_se`` is a jackknife, of label maps.
    """

    method: str
    baseline: str
    scope: str
    student: str
    students: int
    seeds: int
    expected_seeds: int
    mean: float | None
    half_width: float | None
    test_se: float | None
    verdict: Verdict
    published: float | None = None
    jackknife_images: int | None = None

    @property
    def test_margin(self) -> float | None:
        """Half-width of the test set's 95 % interval in points, None without a standard error."""
        return None if self.test_se is None else margin_of_test_set(self.test_se, self.jackknife_images)

    @property
    def margin(self) -> float | None:
        """Half-width of the 95 % interval over seeds and test images together, where both are known."""
        if self.half_width is None or self.test_margin is None:
            return None
        return margin_of_both(self.half_width, self.test_margin)


def to_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV text; floats have at most six decimals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return repr(round(value, 6)) if isinstance(value, float) else str(value)


def rows_to_csv(kind: type[Any], rows: Sequence[Any]) -> str:
    """Return instances of a flat dataclass as CSV text, without what is too long for a table."""
    header = [each.name for each in fields(kind) if each.name not in (*UNTABLED, "test_iou_pct")]
    return to_csv(header, ([getattr(row, name) for name in header] for row in rows))


def table_to_csv(rows: Sequence[StudentRow], methods: Sequence[str]) -> str:
    """Return the main table as CSV text: the model's columns, then ``<method>_<value>`` for each method."""
    models = [each.name for each in fields(Model)]
    values = [each.name for each in fields(MethodError)]
    body = []
    for row in rows:
        errors = [row.errors.get(method) for method in methods]
        body.append(
            [getattr(row.model, name) for name in models]
            + [getattr(error, value, None) for error in errors for value in values]
        )
    return to_csv([*models, *(f"{method}_{value}" for method in methods for value in values)], body)


class Tables(JsonModel):
    """Content of ``tables.json``: the tables of a study in one file."""

    runs: tuple[Run, ...]
    rows: tuple[StudentRow, ...]
    differences: tuple[Difference, ...]

    def text(self) -> str:
        """Return the file's text, without what is too long for a table."""
        content = self.model_dump(mode="json", exclude={"runs": {"__all__": set(UNTABLED)}})
        return json.dumps(content, indent=1) + "\n"
