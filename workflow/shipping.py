"""The chosen student as verified files, with what it costs and how it does stated beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from moonshine.artifacts import load
from moonshine.budgets import parse_all
from moonshine.config import Study
from moonshine.data import Dataset
from moonshine.data import load as load_dataset
from moonshine.errors import MoonshineError
from moonshine.export.card import Card, model_card
from moonshine.export.folders import replacing
from moonshine.export.receipts import Exported
from moonshine.export.timings import Timing, measure
from moonshine.export.writing import export_network, write_files
from moonshine.files import read_json, write_bytes
from moonshine.formats.about import About
from moonshine.formats.quantisation import calibration_images
from workflow import nodes, stage
from workflow.layouts import Images, images_of
from workflow.records import Run, read_rows
from workflow.sizes import about_of, timed_batches
from workflow.statistics import estimate

NAMES = {"onnx": "onnx", "onnx-int8": "onnx-int8", "fp32": "safetensors"}
"""Measure of a budget -> the format of the file that it limits."""


def ship(study: Study, choice: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Write the chosen network into ``folder`` in every format, verified, with a model card; returns the timings.

    Errors: ``MoonshineError`` as for `moonshine.export.writing.export_network`, and for a file that is over its budget
    after all; then ``folder`` is as it was.
    """
    assert study.ship
    chosen = choice["chosen"]
    node = node_of(study, chosen)
    images, dataset = images_of(study), load_dataset(nodes.fetch(study.study).folder)
    structure = read_json(node.folder / "structure.json")
    about = about_of(images, structure)
    calibration = min(study.ship.calibration_images, len(dataset.train))
    with replacing(folder) as draft:
        exported = export_network(
            load(node.folder),
            draft,
            about,
            train=dataset.train,
            test=dataset.test,
            calibration=calibration,
            tolerance=study.ship.logit_tolerance,
            threads=study.runtime.threads,
        )
        _check_budgets(study, exported)
        threads = study.runtime.threads
        timings = _measure(draft, exported, about, threads)
        teacher = _teacher_timings(study, images, dataset, exported, threads)
        card = _card(study, chosen, structure, images, about, exported, timings, teacher)
        write_bytes(draft / "README.md", model_card(card).encode())
    stage.logger.info("test error of the files: %s", _errors(exported))
    return [asdict(timing) for timing in timings]


def node_of(study: Study, chosen: Mapping[str, Any]) -> nodes.Node:
    """The trained node that a choice names."""
    if chosen["method"] == "scratch":
        return nodes.scratch(study.study, chosen["student"], chosen["seed"])
    return nodes.distil(study.study, chosen["student"], chosen["method"], chosen["seed"])


def _check_budgets(study: Study, exported: Exported) -> None:
    assert study.ship
    for budget in parse_all(study.ship.budget):
        for receipt in exported.receipts:
            if NAMES.get(budget.measure) == receipt.format and not budget.allows(receipt.bytes):
                raise MoonshineError(
                    f"ship.budget: {receipt.file} has {receipt.bytes:,} bytes, more than {budget}; allowed: a smaller "
                    "budget than the one that is meant, or another student"
                )


def _measure(folder: Path, exported: Exported, about: About, threads: int) -> list[Timing]:
    batches = timed_batches(about.is_dense)
    return [
        measure(folder / receipt.file, about.input_shape, threads, batches) for receipt in exported.receipts
    ]


def _teacher_timings(
    study: Study, images: Images, dataset: Dataset, exported: Exported, threads: int
) -> list[Timing]:
    """The teacher in the same formats, in a folder that is thrown away."""
    folder = nodes.teacher(study.study).folder
    teacher: nn.Module = load(folder)
    about = about_of(images, read_json(folder / "structure.json"))
    formats = [receipt.format for receipt in exported.receipts]
    with TemporaryDirectory() as draft:
        write_files(teacher, Path(draft), about, calibration_images(dataset.train, 2), formats)
        return _measure(Path(draft), exported, about, threads)


def _card(
    study: Study,
    chosen: Mapping[str, Any],
    structure: Mapping[str, Any],
    images: Images,
    about: About,
    exported: Exported,
    timings: list[Timing],
    teacher: list[Timing],
) -> Card:
    assert study.ship
    runs = read_rows(Run, nodes.collect(study.study).folder / "runs.csv")
    own = [run for run in runs if (run.student, run.method) == (chosen["student"], chosen["method"])]
    errors = {run.seed: run.test_error_pct for run in own if run.test_error_pct is not None}
    result = estimate(errors.values())
    half = result.half_width
    method = study.methods.get(chosen["method"])
    return Card(
        name=f"{chosen['student']} of {study.study}",
        teacher=study.teacher.name,
        blocks=structure["blocks"],
        parameters=structure["parameters"],
        macs=structure["macs"],
        data=f"{images.dataset['name']}: {images.dataset['source']}",
        data_sha256=images.dataset["sha256"]["source"],
        examples=images.dataset["counts"],
        method=chosen["method"],
        recipe={
            **study.training.model_dump(mode="json"),
            "augment": study.augment.model_dump(mode="json"),
            "method": method.model_dump(mode="json", exclude_none=True) if method else {},
        },
        seeds=sorted(errors),
        seed=chosen["seed"],
        error_mean_pct=result.mean or 0.0,
        interval=None if half is None or result.mean is None else (result.mean - half, result.mean + half),
        teacher_error_pct=runs[0].test_error_pct,
        about=about,
        exported=exported,
        budget=" and ".join(map(str, parse_all(study.ship.budget))),
        limits=("Which student and which seed are shipped was chosen on the validation split alone.",),
        timings=timings,
        teacher_timings=teacher,
    )


def _errors(exported: Exported) -> str:
    return ", ".join(f"{receipt.file} {receipt.error_pct:.2f} %" for receipt in exported.receipts)
