"""Rows of a study's tables: as CSV, where a missing value is an empty cell, and as JSON, which the report reads."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from moonshine.json_model import JsonModel
from moonshine.structures.structure import MIXED
from moonshine_workflow.tables.statistics import Verdict, margin_of_both, margin_of_test_set

FINETUNED = "finetuned"
"""``terms`` of a pretrained teacher that was trained on."""
PER_IMAGE = ("test_wrong", "test_image_errors")
"""Fields of a run with a value for every image, too long for a table."""


@dataclass(frozen=True)
class Run:
    """Row of ``runs.csv``: one trained node; ``terms`` names its losses, such as ``kd+at``, or is `FINETUNED`."""

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
    # Of network.dc, from which a compressed student was read back and evaluated.
    compressed_bytes: int | None = None
    train_loss: float | None = None
    train_error_pct: float | None = None
    validation_loss: float | None = None
    validation_error_pct: float | None = None
    test_loss: float | None = None
    test_error_pct: float | None = None
    test_examples: int | None = None
    test_top5_error_pct: float | None = None
    # Semantic segmentation only, where the error is 100 - mIoU.
    test_miou_pct: float | None = None
    test_iou_pct: dict[str, float | None] = field(default_factory=dict)
    test_pixel_error_pct: float | None = None
    # Indices of the misclassified test images, such as "3 17".
    test_wrong: str | None = None
    # Jackknife pseudo-values of the error in percent, one per test image, such as "31.2 40.1"; mIoU is not a mean.
    test_image_errors: str | None = None
    # Caveats about a teacher's errors, in sentences.
    warnings: str | None = None

    @property
    def column(self) -> str:
        """Return the main table's column for its error: the method; ``scratch`` for a teacher that was trained here."""
        if self.method != "teacher":
            return self.method
        return "teacher" if self.terms == FINETUNED or self.epochs_run == 0 else "scratch"


@dataclass(frozen=True)
class Model:
    """Student, or the teacher, with its costs; ``compression`` is the teacher's parameter count over its own."""

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
    """Test error of one method: ``n`` of ``seeds`` runs completed; ``test_se`` is the standard error over images."""

    n: int
    seeds: int
    mean: float | None
    half_width: float | None
    test_se: float | None
    published: float | None = None


@dataclass(frozen=True)
class StudentRow:
    """Row of ``table.csv``, with errors by `Run.column`."""

    model: Model
    errors: dict[str, MethodError]

    @property
    def only_error(self) -> MethodError | None:
        """Return the error of a teacher, which has a single column."""
        return next(iter(self.errors.values()), None)

    @property
    def test_se(self) -> float | None:
        """Return the largest standard error over test images among the methods."""
        found = (error.test_se for error in self.errors.values())
        return max((value for value in found if value is not None), default=None)


def table_columns(rows: Sequence[StudentRow], methods: Sequence[str]) -> list[str]:
    """Return the error columns of the main table: the methods, and ``teacher`` for a pretrained one."""
    return [*methods, *(["teacher"] if any("teacher" in row.errors for row in rows) else [])]


def look_alikes(rows: Sequence[StudentRow]) -> set[str]:
    """Return the students that network and block do not tell apart from others, such as one with a warm start."""
    names = [(row.model.network, row.model.block) for row in rows]
    alike = zip(rows, names, strict=True)
    return {row.model.student for row, name in alike if names.count(name) > 1 or row.model.block == MIXED}


@dataclass(frozen=True)
class Difference:
    """Row of ``differences.csv``: ``method`` minus ``baseline`` in percentage points, paired by seed.

    ``scope`` is ``student`` or ``pooled`` (over ``students`` students). ``seeds`` of ``expected_seeds`` have a pair.
    ``jackknife_images`` is the number of images of the jackknife behind ``test_se``, in semantic segmentation.
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
        """Return the half-width in points of the 95 % interval over test images, None without a standard error."""
        return None if self.test_se is None else margin_of_test_set(self.test_se, self.jackknife_images)

    @property
    def margin(self) -> float | None:
        """Return the half-width of the 95 % interval over both seeds and test images, None if either is unknown."""
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
    """Return instances of a flat dataclass as CSV text, without the fields that are too long for a table."""
    header = [each.name for each in fields(kind) if each.name not in (*PER_IMAGE, "test_iou_pct")]
    return to_csv(header, ([getattr(row, name) for name in header] for row in rows))


def table_to_csv(rows: Sequence[StudentRow], methods: Sequence[str]) -> str:
    """Return the main table as CSV text: the model's columns, then ``<method>_<value>`` columns for each method."""
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
    """Content of ``tables.json``: all tables of a study."""

    runs: tuple[Run, ...]
    rows: tuple[StudentRow, ...]
    differences: tuple[Difference, ...]

    def text(self) -> str:
        """Return the file's text, without the fields that are too long for a table."""
        content = self.model_dump(mode="json", exclude={"runs": {"__all__": set(PER_IMAGE)}})
        return json.dumps(content, indent=1) + "\n"
