"""Export of the best student whose files pass, with its costs and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from moonshine.config import Study
from moonshine.costs.budgets import FILE_MEASURES, parse_budgets
from moonshine.data.store import Dataset
from moonshine.errors import MoonshineError
from moonshine.export.card import Card, model_card
from moonshine.export.folders import replacing
from moonshine.export.receipts import Exported, write_receipts
from moonshine.export.timings import Timing, measure
from moonshine.export.writing import calibration_images, export_network, write_files
from moonshine.files import write_bytes
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS
from moonshine.formats.onnx import ONNX
from moonshine.structures.artifacts import load
from moonshine.structures.structure import StudyStructure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.students.layouts import Images, images_of
from moonshine_workflow.students.sizes import about_of, timed_batches
from moonshine_workflow.tables.choice import Candidate, ShippingChoice
from moonshine_workflow.tables.records import Tables
from moonshine_workflow.tables.shipped import FILE, Judged, Shipped, warnings
from moonshine_workflow.tables.statistics import estimate
from moonshine_workflow.training.prepared import load_prepared


class _Unfit(Exception):
    """Not an error: these files are not what the study wants, and the next candidate has its turn."""


def ship(study: Study, choice: ShippingChoice, folder: Path) -> list[dict[str, Any]]:
    """Write the first candidate whose files are good into ``folder``, verified, with a model card; returns the timings.

    Each is written in every format and judged on the validation split, until one is good: within the error that the
    study allows, and no more than what it tolerates worse than the network. Where none is, the most accurate of those
    that are within the allowed error ships with a warning, or nothing does. `moonshine_workflow.tables.shipped` has the
    record.
    Errors: ``MoonshineError`` as for `moonshine.export.writing.export_network`, and for a file that is over its budget
    after all; then ``folder`` is as it was.
    """
    assert study.ship
    images, dataset = images_of(study), load_prepared(study)
    judged: list[Judged] = []
    with replacing(folder) as draft:
        for candidate in choice.ranked:
            try:
                exported = _export(study, candidate, images, dataset, draft, judged, final=False)
                chosen = judged[-1]
                break
            except _Unfit:
                stage.logger.info("%s", _verdict(judged[-1]))
        else:
            shipped = _record(study, judged, None)
            fallen = [each for each in judged if each.verdict == "falls"]
            if not fallen:
                shipped.write(draft / FILE)
                return []
            chosen = min(fallen, key=shipped.worst)
            candidate = choice.ranked[judged.index(chosen)]
            exported = _export(study, candidate, images, dataset, draft, judged, final=True)
        _check_budgets(study, exported)
        shipped = _record(study, judged, chosen)
        shipped.write(draft / FILE)
        structure = StudyStructure.read(node_of(study, candidate).folder / "structure.json")
        about = about_of(images, structure)
        timings = _measure(study, draft, exported, about)
        teacher = _teacher_timings(study, images, dataset, exported)
        card = _card(study, candidate, shipped, structure, images, about, exported, timings, teacher)
        write_bytes(draft / "README.md", model_card(card).encode())
    for warning in card.warnings:
        stage.logger.warning("%s", warning)
    stage.logger.info("test error of the files: %s", _errors(exported))
    return [asdict(timing) for timing in timings]


def _record(study: Study, judged: Sequence[Judged], chosen: Judged | None) -> Shipped:
    asked = study.ship
    assert asked
    return Shipped(
        status="shipped" if chosen else "not accurate enough",
        budgets=tuple(map(str, parse_budgets(asked.budget))),
        allowed_error_pct=asked.allowed_error_pct,
        allowed_fall_points=asked.allowed_fall_points,
        counted=tuple(FORMATS[name].file for name in _counted(study)),
        chosen=chosen,
        judged=tuple(judged),
    )


def _counted(study: Study) -> tuple[str, ...]:
    """The formats of the files whose bytes the budget counts; ONNX where it counts none."""
    assert study.ship
    measures = [budget.measure for budget in parse_budgets(study.ship.budget)]
    return tuple(FILE_MEASURES[measure].name for measure in measures if measure in FILE_MEASURES) or (
        ONNX.name,
    )


def _export(
    study: Study,
    candidate: Candidate,
    images: Images,
    dataset: Dataset,
    folder: Path,
    judged: list[Judged],
    *,
    final: bool,
) -> Exported:
    """The candidate's files; unless this is ``final``, first judged, and ``_Unfit`` where the verdict is not good."""
    assert study.ship
    node = node_of(study, candidate)
    about = about_of(images, StudyStructure.read(node.folder / "structure.json"))
    validation = dataset.validation
    assert validation is not None  # or no candidate would have been ranked
    inexact = [format.name for format in FORMATS.values() if not format.is_exact]

    def judge(network: nn.Module, draft: Path) -> None:
        found = write_receipts(
            network, draft, about, validation, {*_counted(study), *inexact}, study.runtime.threads
        )
        judged.append(_judged(study, candidate, found))
        if judged[-1].verdict != "good":
            raise _Unfit

    return export_network(
        load(node.folder, trust=study.trusted),
        folder,
        about,
        train=dataset.train,
        test=dataset.test,
        calibration=min(study.ship.calibration_images, len(dataset.train)),
        tolerance=study.ship.logit_tolerance,
        threads=study.runtime.threads,
        judge=None if final else judge,
    )


def _judged(study: Study, candidate: Candidate, found: Exported) -> Judged:
    """The verdict on a candidate from its receipts on the validation split."""
    assert study.ship
    errors = {receipt.file: receipt.error_pct for receipt in found.receipts}
    names = (candidate.student, candidate.method, candidate.best_seed)
    judged = Judged(*names, found.error_pct, errors, "good")
    shipped, allowed = _record(study, (), None), study.ship.allowed_error_pct
    if allowed is not None and not shipped.worst(judged) <= allowed:
        return replace(judged, verdict="not accurate enough")
    falls = set(shipped.falls(judged)) & set(shipped.counted)
    return replace(judged, verdict="falls") if falls else judged


def _verdict(judged: Judged) -> str:
    files = ", ".join(f"{name} {error:.2f} %" for name, error in judged.files_pct.items())
    return (
        f"{judged.student} {judged.method} seed {judged.seed}: {judged.verdict}: validation error {files}; "
        f"the network {judged.network_pct:.2f} %"
    )


def node_of(study: Study, chosen: Candidate) -> nodes.Node:
    """Return the trained node of a candidate."""
    if chosen.method == "scratch":
        return nodes.scratch(study.study, chosen.student, chosen.best_seed)
    return nodes.distil(study.study, chosen.student, chosen.method, chosen.best_seed)


def _check_budgets(study: Study, exported: Exported) -> None:
    assert study.ship
    for budget in parse_budgets(study.ship.budget):
        for receipt in exported.receipts:
            counted = budget.measure in FILE_MEASURES and FILE_MEASURES[budget.measure].name == receipt.format
            if counted and not budget.allows(receipt.bytes):
                raise MoonshineError(
                    f"ship.budget: {receipt.file} has {receipt.bytes:,} bytes, more than {budget}; allowed: a smaller "
                    "budget than the one that is meant, or another student"
                )


def _measure(study: Study, folder: Path, exported: Exported, about: About) -> list[Timing]:
    batches, threads = timed_batches(about.is_dense), study.runtime.threads
    return [
        measure(folder / receipt.file, about.input_shape, threads, batches, trust=study.trusted)
        for receipt in exported.receipts
    ]


def _teacher_timings(study: Study, images: Images, dataset: Dataset, exported: Exported) -> list[Timing]:
    """The teacher in the same formats, in a folder that is thrown away."""
    folder = nodes.teacher(study.study).folder
    teacher: nn.Module = load(folder, trust=study.trusted)
    about = about_of(images, StudyStructure.read(folder / "structure.json"))
    formats = [receipt.format for receipt in exported.receipts]
    with TemporaryDirectory() as draft:
        write_files(teacher, Path(draft), about, calibration_images(dataset.train, 2), formats)
        return _measure(study, Path(draft), exported, about)


def _card(
    study: Study,
    chosen: Candidate,
    shipped: Shipped,
    structure: StudyStructure,
    images: Images,
    about: About,
    exported: Exported,
    timings: list[Timing],
    teacher: list[Timing],
) -> Card:
    assert study.ship
    runs = Tables.read(nodes.collect(study.study).folder / nodes.TABLES).runs
    own = [run for run in runs if (run.student, run.method) == (chosen.student, chosen.method)]
    errors = {
        run.seed: run.test_error_pct
        for run in own
        if run.status == "completed" and run.test_error_pct is not None
    }
    result = estimate(errors.values())
    half = result.half_width
    method, described = study.methods.get(chosen.method), images.dataset
    assert described is not None
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
            **study.training.model_dump(mode="json"),
            "augment": study.augment.model_dump(mode="json"),
            "method": method.model_dump(mode="json", exclude_none=True) if method else {},
        },
        seeds=sorted(errors),
        seed=chosen.best_seed,
        error_mean_pct=result.mean,
        interval=None if half is None or result.mean is None else (result.mean - half, result.mean + half),
        teacher_error_pct=runs[0].test_error_pct,
        about=about,
        exported=exported,
        budget=" and ".join(map(str, parse_budgets(study.ship.budget))),
        counted=shipped.counted,
        warnings=warnings(shipped, chosen),
        limits=("Which student and which seed are shipped was chosen on the validation split alone.",),
        timings=timings,
        teacher_timings=teacher,
    )


def _errors(exported: Exported) -> str:
    return ", ".join(f"{receipt.file} {receipt.error_pct:.2f} %" for receipt in exported.receipts)
