"""Row types of a study's tables, and their CSV form, in which an absent value is an empty cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from moonshine.errors import MoonshineError
from moonshine.files import read_csv
from moonshine_workflow.tables.statistics import Verdict, margin_of_both, margin_of_test_set

Row = TypeVar("Row")
UNTABLED = ("test_wrong", "test_image_errors")  # too long for a table


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
    test_pixel_error_pct: float | None = None
    # Indices of the misclassified test images, such as "3 17".
    test_wrong: str | None = None
    # What each test image says of the error in percent, such as "31.2 40.1", where the error is no mean over them.
    test_image_errors: str | None = None
    # Of the teacher: what a reader must know of its errors, in sentences.
    warnings: str | None = None

    @property
    def column(self) -> str:
        """Where the main table has its error: with its method, a teacher that was trained with scratch."""
        if self.method != "teacher":
            return self.method
        return "teacher" if self.epochs_run == 0 else "scratch"


@dataclass(frozen=True)
class Model:
    """What a student is and costs; ``compression`` is the teacher's parameters over its own."""

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
    """The test error of one method: ``n`` of ``seeds`` runs completed; ``test_se`` is the test set's own."""

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
        """The error of the teacher, which was trained in one way, or not at all."""
        return next(iter(self.errors.values()), None)

    @property
    def test_se(self) -> float | None:
        """The largest standard error of the test set among the methods."""
        found = (error.test_se for error in self.errors.values())
        return max((value for value in found if value is not None), default=None)


def columns(rows: Sequence[StudentRow], methods: Sequence[str]) -> list[str]:
    """The columns of errors in the main table: the methods, and ``teacher`` for one that was not trained."""
    return [*methods, *(["teacher"] if any("teacher" in row.errors for row in rows) else [])]


def look_alikes(rows: Sequence[StudentRow]) -> set[str]:
    """The students whose network and block another student has too, such as one with a warm start."""
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
        """The half-width of the test set's own 95 % interval in points, None where it has no standard error."""
        return None if self.test_se is None else margin_of_test_set(self.test_se, self.jackknife_images)

    @property
    def margin(self) -> float | None:
        """The half-width of the 95 % interval over seeds and test images together, where both are known."""
        if self.half_width is None or self.test_margin is None:
            return None
        return margin_of_both(self.half_width, self.test_margin)


def to_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV text; floats have at most six decimals."""
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
    """Instances of one flat dataclass as CSV text, without what is too long for a table."""
    header = [field.name for field in fields(kind) if field.name not in UNTABLED]
    return to_csv(header, ([getattr(row, name) for name in header] for row in rows))


def table_to_csv(rows: Sequence[StudentRow], methods: Sequence[str]) -> str:
    """The main table as CSV text: the model's columns, then ``<method>_<value>`` for each method."""
    models = [field.name for field in fields(Model)]
    values = [field.name for field in fields(MethodError)]
    body = []
    for row in rows:
        errors = [row.errors.get(method) for method in methods]
        body.append(
            [getattr(row.model, name) for name in models]
            + [getattr(error, value, None) for error in errors for value in values]
        )
    return to_csv([*models, *(f"{method}_{value}" for method in methods for value in values)], body)


def _build(kind: type[Row], cells: dict[str, str], path: Path) -> Row:
    """One instance of a flat dataclass; only a field that is plainly ``str`` keeps an empty cell."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if name in UNTABLED:
            continue
        if cells.get(name) is None:
            raise MoonshineError(f"{path}: the column '{name}' is missing; collect the study again")
        if cells[name] == "" and hint is not str:
            values[name] = None
        else:
            parts = get_args(hint) or (hint,)
            try:
                values[name] = next(
                    (number(cells[name]) for number in (float, int) if number in parts), cells[name]
                )
            except ValueError:
                raise MoonshineError(
                    f"{path}: {name}: found {cells[name]!r}; allowed: a number; collect the study again"
                ) from None
    return kind(**values)


def checked(row: Row, path: Path) -> Row:
    """A flat dataclass with values of a JSON file; ``MoonshineError`` where one is of another type than its field."""
    for name, hint in get_type_hints(type(row)).items():
        kinds = get_args(hint) or (hint,)
        value = getattr(row, name)
        if type(value) not in kinds and not (float in kinds and type(value) is int) and name not in UNTABLED:
            allowed = " or ".join(kind.__name__ for kind in kinds)
            raise MoonshineError(f"{path}: damaged: {name}: found {value!r}; allowed: {allowed}")
    return row


def read_rows(kind: type[Row], path: Path) -> list[Row]:
    """Instances of a flat dataclass from the CSV text of :func:`rows_to_csv`."""
    columns = [field.name for field in fields(kind) if field.name not in UNTABLED]  # type: ignore[arg-type]
    return [_build(kind, cells, path) for cells in read_csv(path, columns)]


def read_table(path: Path) -> list[StudentRow]:
    """The main table from the CSV text of :func:`table_to_csv`."""
    rows = []
    for cells in read_csv(path, [field.name for field in fields(Model)]):
        methods = [name.removesuffix("_test_se") for name in cells if name.endswith("_test_se")]
        errors = {}
        for method in methods:
            own = {
                field.name: cells[name]
                for field in fields(MethodError)
                if (name := f"{method}_{field.name}") in cells
            }
            if own.get("seeds") != "":
                errors[method] = _build(MethodError, own, path)
        rows.append(StudentRow(_build(Model, cells, path), errors))
    return rows
