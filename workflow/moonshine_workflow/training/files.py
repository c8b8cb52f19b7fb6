"""Output files of a trained network: five of them, and what they contain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from moonshine.data.description import Description
from moonshine.data.store import Dataset
from moonshine.files import sha256, write_csv, write_json
from moonshine.structures.artifacts import save_weights
from moonshine.structures.structure import StudyStructure
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import Execution
from moonshine.training.history import History
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.metrics import Evaluation, Metrics, RunIdentity, Score


def identity_of(job: stage.Job, structure: StudyStructure, seed: int) -> RunIdentity:
    """Return the identity of a node, as recorded in its metrics and its MLflow run."""
    return RunIdentity(
        study=job.study.study,
        node=job.node.name,
        student=job.node.student or "teacher",
        network=structure.network,
        block=structure.block,
        method=job.node.method or job.node.stage,
        seed=seed,
    )


def inputs(job: stage.Job, dataset: Description, structure: StudyStructure, distils: bool) -> dict[str, Any]:
    """Return the checksums of a node's inputs: data, teacher, and the user's code that builds the network."""
    weights = nodes.teacher(job.study.study).folder / "weights.safetensors"
    code = structure.source_sha256
    return {
        "data": dataset.sha256["data.safetensors"],
        "teacher": sha256(weights) if distils else None,
        **({"code": code} if code else {}),
    }


def evaluate_test(
    network: nn.Module, dataset: Dataset, execution: Execution, history: History
) -> tuple[History, Evaluation | None]:
    """Evaluate a run on the test set; if its loss there is not finite, the run counts as diverged after all."""
    if history.status != "diverged":
        found = evaluate(network, dataset.test, dataset, execution)
        if math.isfinite(found["loss"]):
            stage.logger.info("test error %.2f %%", found["error_pct"])
            return history, Evaluation(**found)
    return replace(history, status="diverged"), None


def write_outputs(
    node: nodes.Node,
    network: nn.Module,
    structure: StudyStructure,
    config: dict[str, Any],
    history: History,
    identity: RunIdentity,
    test: Evaluation | None,
    validation: Score | None = None,
    warnings: Sequence[str] = (),
    compressed_bytes: int | None = None,
) -> None:
    """Write the five files, metrics last, so that a folder with metrics is complete.

    ``validation`` is the score of a network that was not trained; otherwise the last epoch's is used. ``warnings`` are
    sentences for the report. ``compressed_bytes`` are those of the file of a student that was compressed.
    """
    last = history.rows[-1] if history.rows else {}
    if "validation_error_pct" in last:
        validation = Score(error_pct=last["validation_error_pct"], loss=_finite(last["validation_loss"]))
    noted: dict[str, Any] = {"warnings": " ".join(warnings)} if warnings else {}
    if compressed_bytes is not None:
        noted["compressed_bytes"] = compressed_bytes
    save_weights(network, node.folder / "weights.safetensors")
    structure.write(node.folder / "structure.json")
    write_csv(node.folder / "history.csv", history.rows, last or ["epoch"])
    write_json(node.folder / "config.json", config)
    Metrics(
        **dict(identity),
        status=history.status,
        epochs_run=len(history.rows),
        parameters=structure.parameters,
        macs=structure.macs,
        train=Score(error_pct=last["train_error_pct"], loss=_finite(last["loss"])) if last else None,
        validation=validation,
        test=test,
        **noted,
    ).write(node.folder / "metrics.json")


def _finite(value: float | None) -> float | None:
    """Return None for infinities and NaN, which JSON does not have: the loss of a diverged run is null."""
    return value if value is not None and math.isfinite(value) else None
