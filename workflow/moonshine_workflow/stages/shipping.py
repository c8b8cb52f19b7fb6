"""Export of the best student whose files pass, with its costs and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from moonshine.config import Study
from moonshine.config.networks import Ship
from moonshine.costs.budgets import FILE_MEASURES, Budget, parse_budgets
from moonshine.data.store import Dataset
from moonshine.errors import MoonshineError
from moonshine.export.card import Card, model_card
from moonshine.export.folders import replace_folder
from moonshine.export.receipts import Exported, TflmReceipt, write_receipts
from moonshine.export.timings import Timing, measure_file
from moonshine.export.writing import calibration_images, write_export, write_files
from moonshine.files import write_bytes
from moonshine.formats.about import About
from moonshine.formats.dc import DC
from moonshine.formats.format import Format, NotConverted
from moonshine.formats.formats import FORMATS
from moonshine.formats.onnx import ONNX
from moonshine.formats.tflite.int8 import TFLITE_INT8
from moonshine.progress import ReportProgress, silent
from moonshine.structures.artifacts import load
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.students.layouts import Images, images_of
from moonshine_workflow.students.sizes import about_of, timed_batches
from moonshine_workflow.tables.choice import Candidate, ShippingChoice
from moonshine_workflow.tables.rows import Tables
from moonshine_workflow.tables.shipped import FILE, Judged, Shipped, warnings
from moonshine_workflow.tables.statistics import estimate
from moonshine_workflow.training.prepared import load_prepared


@dataclass(frozen=True)
class _Study:
    """What the candidates of a study have in common when they are exported."""

    study: Study
    ship: Ship
    budgets: tuple[Budget, ...]
    images: Images
    dataset: Dataset
    progress: ReportProgress

    @property
    def counted(self) -> tuple[Format, ...]:
        """The formats whose bytes or RAM the budget counts; ONNX where it counts none."""
        files = {**FILE_MEASURES, "ram": TFLITE_INT8}
        counted = (files[each.measure] for each in self.budgets if each.measure in files)
        return tuple(dict.fromkeys(counted)) or (ONNX,)

    def record(self, judged: Sequence[Judged] = (), chosen: Judged | None = None) -> Shipped:
        return Shipped(
            status="shipped" if chosen else "not accurate enough",
            budgets=tuple(map(str, self.budgets)),
            allowed_error_pct=self.ship.allowed_error_pct,
            allowed_fall_points=self.ship.allowed_fall_points,
            counted=tuple(format.file for format in self.counted),
            chosen=chosen,
            judged=tuple(judged),
        )


class _Refused(Exception):
    """Raised where the files of a candidate are not what the study wants, to leave the export."""


def ship(
    study: Study, choice: ShippingChoice, folder: Path, progress: ReportProgress = silent
) -> list[dict[str, Any]]:
    """Write the first candidate whose files are good into ``folder``, verified, with a model card; return the timings.

    Each is written in every format and judged on the validation split, until one is good: within the error that the
    study allows, and no more than what it tolerates worse than the network. Where none is, the most accurate of those
    that are within the allowed error ships with a warning, or nothing does. A candidate that a format does not take is
    passed over too. `moonshine_workflow.tables.shipped` has the record.
    MoonshineError as for `moonshine.export.writing.write_export`, where no candidate can be converted, and for a file
    that is over its budget after all; then ``folder`` is as it was.
    """
    assert study.ship
    budgets = parse_budgets(study.ship.budget)
    made = _Study(study, study.ship, budgets, images_of(study), load_prepared(study), progress)
    judged: list[Judged] = []
    with replace_folder(folder) as draft:
        for candidate in choice.ranked:
            chosen, exported = _judge(made, candidate, draft)
            judged.append(chosen)
            progress("candidates exported", len(judged), None)
            if exported:
                break
            stage.logger.info("%s", _verdict(chosen))
        else:
            if all(each.verdict == "not converted" for each in judged):
                raise MoonshineError(
                    f"ship: no candidate can be exported: {'; '.join(map(_verdict, judged))}"
                )
            fallen = [each for each in judged if each.verdict == "falls"]
            if not fallen:
                made.record(judged).write(draft / FILE)
                return []
            chosen = min(fallen, key=made.record().worst)
            candidate = choice.ranked[judged.index(chosen)]
            exported = _export(made, candidate, draft)
        _check_budgets(made, exported)
        shipped = made.record(judged, chosen)
        shipped.write(draft / FILE)
        card = _card(made, candidate, shipped, exported, draft)
        write_bytes(draft / "README.md", model_card(card).encode())
    for warning in card.warnings:
        stage.logger.warning("%s", warning)
    errors = ", ".join(f"{receipt.file} {receipt.error_pct:.2f} %" for receipt in exported.receipts)
    stage.logger.info("test error of the files: %s", errors)
    return [asdict(timing) for timing in card.timings]


def _judge(made: _Study, candidate: Candidate, folder: Path) -> tuple[Judged, Exported | None]:
    """Judge a candidate by its files in validation; those that are good are exported into ``folder``."""
    validation, about = made.dataset.validation, _about(made, node_of(made.study, candidate))
    assert validation is not None  # or no candidate would have been ranked
    formats = [format for format in FORMATS.values() if format in made.counted or not format.is_exact]
    judged = Judged(candidate.student, candidate.method, candidate.best_seed, None, {}, "good")

    def judge(network: nn.Module, draft: Path) -> None:
        nonlocal judged
        names = [format.name for format in formats if (draft / format.file).is_file()]
        found = write_receipts(network, draft, about, validation, names, made.study.runtime.threads)
        files = {receipt.file: receipt.error_pct for receipt in found.receipts}
        judged = replace(judged, network_pct=found.error_pct, files_pct=files)
        shipped, allowed = made.record(), made.ship.allowed_error_pct
        if allowed is not None and not shipped.worst(judged) <= allowed:
            judged = replace(judged, verdict="not accurate enough")
        elif set(shipped.degraded(judged)) & set(shipped.counted):
            judged = replace(judged, verdict="falls")
        if judged.verdict != "good":
            raise _Refused

    try:
        exported = _export(made, candidate, folder, judge)
    except _Refused:
        return judged, None
    except NotConverted as error:
        return replace(judged, verdict="not converted", reason=str(error)), None
    return judged, exported


def _export(
    made: _Study, candidate: Candidate, folder: Path, judge: Callable[[nn.Module, Path], None] | None = None
) -> Exported:
    node = node_of(made.study, candidate)
    compressed = made.study.students[candidate.student].compression is not None
    return write_export(
        load(node.folder, trust=made.study.trusted),
        folder,
        _about(made, node),
        train=made.dataset.train,
        test=made.dataset.test,
        calibration=min(made.ship.calibration_images, len(made.dataset.train)),
        tolerance=made.ship.logit_tolerance,
        threads=made.study.runtime.threads,
        also=[format.name for format in made.counted] + [DC.name] * compressed,
        judge=judge,
    )


def _about(made: _Study, node: nodes.Node) -> About:
    return about_of(made.images, StudyStructure.read(node.folder / "structure.json"))


def _verdict(judged: Judged) -> str:
    what = judged.reason
    if not what:
        files = ", ".join(f"{name} {error:.2f} %" for name, error in judged.files_pct.items())
        what = f"validation error {files}; the network {judged.network_pct:.2f} %"
    return f"{judged.student} {judged.method} seed {judged.seed}: {judged.verdict}: {what}"


def node_of(study: Study, chosen: Candidate) -> nodes.Node:
    """Return the trained node of a candidate."""
    if chosen.method == "scratch":
        return nodes.scratch(study.study, chosen.student, chosen.best_seed)
    return nodes.distil(study.study, chosen.student, chosen.method, chosen.best_seed)


def _check_budgets(made: _Study, exported: Exported) -> None:
    receipts = {receipt.format: receipt for receipt in exported.receipts}
    for budget in made.budgets:
        if budget.measure == "ram":
            receipt = receipts[TFLITE_INT8.name]
            if not isinstance(receipt.tflm, TflmReceipt):
                raise MoonshineError(f"ship.budget: {budget}: {receipt.file} was not run: {receipt.tflm}")
            found, what = receipt.tflm.arena_bytes, "bytes of RAM"
        elif format := FILE_MEASURES.get(budget.measure):
            receipt = receipts[format.name]
            found, what = receipt.bytes, "bytes"
        else:
            continue
        if not budget.allows(found):
            raise MoonshineError(
                f"ship.budget: {receipt.file} has {found:,} {what}, more than {budget}; allowed: a larger budget, or "
                "another student"
            )


def _measure(made: _Study, folder: Path, exported: Exported, of: str) -> list[Timing]:
    shape, threads = made.images.shape, made.study.runtime.threads
    batches = timed_batches(made.study.data.is_dense)
    timings = []
    for receipt in exported.receipts:
        timings.append(measure_file(folder / receipt.file, shape, threads, batches, trust=made.study.trusted))
        made.progress(f"files of {of} timed", len(timings), len(exported.receipts))
    return timings


def _teacher_timings(made: _Study, exported: Exported) -> list[Timing]:
    """Measure the teacher in the same formats, in a folder that is thrown away."""
    node = nodes.teacher(made.study.study)
    formats = [receipt.format for receipt in exported.receipts]
    images = calibration_images(made.dataset.train, 2)
    with TemporaryDirectory() as draft:
        try:
            write_files(
                load(node.folder, trust=made.study.trusted), Path(draft), _about(made, node), images, formats
            )
        except NotConverted as error:
            stage.logger.warning("the teacher's latency is not known: %s", error)
            return []
        return _measure(made, Path(draft), exported, "the teacher")


def _card(made: _Study, chosen: Candidate, shipped: Shipped, exported: Exported, folder: Path) -> Card:
    study, described = made.study, made.images.dataset
    assert described is not None
    structure = StudyStructure.read(node_of(study, chosen).folder / "structure.json")
    runs = Tables.read(nodes.collect(study.study).folder / nodes.TABLES).runs
    own = [run for run in runs if (run.student, run.method) == (chosen.student, chosen.method)]
    errors = {
        run.seed: run.test_error_pct
        for run in own
        if run.status == "completed" and run.test_error_pct is not None
    }
    result = estimate(errors.values())
    half = result.half_width
    method = study.methods.get(chosen.method)
    return Card(
        name=f"{chosen.student} of {study.study}",
        teacher=study.teacher.name,
        blocks=structure.blocks,
        parameters=structure.parameters,
        macs=structure.macs,
        data=f"{described.name}: {described.source}",
        data_sha256=described.sha256["source"],
        examples=described.counts,
        method=chosen.method,
        recipe={
            **study.recipe(chosen.student).model_dump(mode="json"),
            "augment": study.augment.model_dump(mode="json"),
            "method": method.model_dump(mode="json", exclude_none=True) if method else {},
        },
        seeds=sorted(errors),
        seed=chosen.best_seed,
        error_mean_pct=result.mean,
        interval=None if half is None or result.mean is None else (result.mean - half, result.mean + half),
        teacher_error_pct=runs[0].test_error_pct,
        about=about_of(made.images, structure),
        exported=exported,
        budget=" and ".join(shipped.budgets),
        counted=shipped.counted,
        warnings=warnings(shipped, chosen),
        limits=("Which student and which seed are shipped was chosen on the validation split alone.",),
        timings=_measure(made, folder, exported, "the student"),
        teacher_timings=_teacher_timings(made, exported),
    )
