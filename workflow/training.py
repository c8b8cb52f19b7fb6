"""What the teacher, scratch and distil stages share: one trained network and the five files it leaves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import nn

import moonshine
from moonshine import MoonshineError
from moonshine.artifacts import load, save_weights
from moonshine.checkpoint import Checkpoints, fingerprint
from moonshine.config import Method
from moonshine.data import load as load_dataset
from moonshine.distillation import distillation
from moonshine.execution import Execution, resolve
from moonshine.files import read_json, sha256, write_csv, write_json
from moonshine.live import Live
from moonshine.networks import from_structure
from moonshine.train import History, Loss, cross_entropy, evaluate, train
from workflow import nodes, stage
from workflow.configuration import configuration
from workflow.progress import Progress

COLUMNS = (
    "epoch",
    "lr",
    "loss",
    "ce",
    "kd",
    "at",
    "train_error_pct",
    "validation_error_pct",
    "validation_loss",
)


def train_node(job: stage.Job, structure: dict[str, Any], method: str | None = None) -> History:
    """Train the network of ``structure`` and write the outputs of ``job``'s node.

    ``method`` is a key of the study's methods, None for cross-entropy alone. The test set is evaluated once, here.
    """
    study, node = job.study, job.node
    execution = resolve(study.runtime, study.training.precision)
    folder = nodes.fetch(study.study).folder
    dataset = load_dataset(folder)
    losses = study.methods[method] if method else None
    settings = configuration(study, node)
    settings["inputs"] = _inputs(job, read_json(folder / "dataset.json"), losses is not None)
    config = {**settings, "runtime": study.runtime.model_dump()}
    seed: int = settings["seed"]
    torch.manual_seed(seed)
    network = from_structure(structure)
    identity = {
        "study": study.study,
        "node": node.name,
        "student": job.args[0] if job.args else "teacher",
        "network": structure["network"],
        "block": study.block_of(job.args[0]) if job.args else "S",
        "method": node.stage if node.stage != "distil" else method,
        "seed": seed,
    }
    live = Live(identity, config)
    with _alone(node), _loss(network, losses, execution, study.study) as loss, _watched(live):
        progress = Progress(node, study.training.epochs, live)
        checkpoints = Checkpoints(node.work, fingerprint(settings, moonshine.__version__))
        history = train(
            network,
            loss,
            dataset,
            study.training,
            study.augment,
            execution,
            seed=seed,
            checkpoints=checkpoints,
            observer=progress,
        )
        if history.status == "diverged" and node.stage == "teacher":
            raise MoonshineError(
                f"the teacher diverged in epoch {len(history.rows)}: nothing can be distilled from it; "
                f"lower training.optimizer.lr (found {study.training.optimizer.lr})"
            )
        _write(
            node, network, structure, config, history, identity, _test(network, dataset, execution, history)
        )
        checkpoints.clear()
    job.timing |= {
        "seconds": round(progress.seconds, 3),
        "epoch_seconds": progress.epoch_seconds,
        "device": str(execution.device),
        "precision": str(execution.dtype).removeprefix("torch."),
        "resumed": history.resumed,
    }
    job.afterwards = lambda: live.close(node.folder, node.timings)
    return history


def _test(network: nn.Module, dataset: Any, execution: Execution, history: History) -> dict[str, Any] | None:
    if history.status == "diverged":
        stage.logger.warning("diverged in epoch %d; recorded as such", len(history.rows))
        return None
    found = evaluate(network, dataset.test, dataset, execution)
    stage.logger.info("test error %.2f %%", found["error_pct"])
    return found


def _write(
    node: nodes.Node,
    network: nn.Module,
    structure: dict[str, Any],
    config: dict[str, Any],
    history: History,
    identity: dict[str, Any],
    test: dict[str, Any] | None,
) -> None:
    """The five files; metrics come last, so that a folder with metrics is a whole one."""
    last = history.rows[-1]
    validation = last.get("validation_error_pct")
    save_weights(network, node.folder / "weights.safetensors")
    write_json(node.folder / "structure.json", structure)
    write_csv(node.folder / "history.csv", history.rows, [name for name in COLUMNS if name in last])
    write_json(node.folder / "config.json", config)
    write_json(
        node.folder / "metrics.json",
        {
            **identity,
            "status": history.status,
            "epochs_run": len(history.rows),
            "parameters": structure["parameters"],
            "macs": structure["macs"],
            "train": {"loss": _finite(last["loss"]), "error_pct": last["train_error_pct"]},
            "validation": None
            if validation is None
            else {"error_pct": validation, "loss": _finite(last["validation_loss"])},
            "test": test,
        },
    )


@contextmanager
def _watched(live: Live) -> Iterator[None]:
    """A run that does not end leaves no MLflow run that looks as if it went on."""
    try:
        yield
    except BaseException:
        live.close()
        raise


def _finite(value: float | None) -> float | None:
    """JSON has no infinities: the loss of a diverged run is null."""
    return value if value is not None and math.isfinite(value) else None


def _inputs(job: stage.Job, dataset: dict[str, Any], distils: bool) -> dict[str, Any]:
    """Checksums of what the node starts from."""
    weights = nodes.teacher(job.study.study).folder / "weights.safetensors"
    return {"data": dataset["sha256"]["data.safetensors"], "teacher": sha256(weights) if distils else None}


def _alone(node: nodes.Node) -> AbstractContextManager[Any]:
    """A lock on the node's work folder: held while it trains, which is also how ``moonshine status`` knows."""
    node.work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(node.work / "lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        raise MoonshineError(f"{node.name}: is being trained by another process ({node.work})") from None


def _loss(
    network: nn.Module, method: Method | None, execution: Execution, study: str
) -> AbstractContextManager[Loss]:
    if method is None:
        return nullcontext(cross_entropy)
    teacher = load(nodes.teacher(study).folder)
    return distillation(network, teacher, method, teacher.taps, execution)  # type: ignore[arg-type]
