"""Invented results, as the training nodes leave them: errors fall with size, and AT has an effect."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from moonshine.config.study import Study, parse_study
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.structures import blocks_of
from moonshine_workflow.training.configuration import configuration

SIZES = {  # parameters, MACs
    "teacher": (691_674, 101_106_944),
    "G4": (254_000, 36_900_000),
    "GN": (96_000, 14_100_000),
    "B2": (131_000, 19_700_000),
    "BG2-M": (48_000, 7_300_000),
}
STUDENTS = {
    "G4": {"block": "G(4)"},
    "GN": {"block": "G(N)"},
    "B2": {"block": "B(2)"},
    "BG2-M": {"block": "BG(2,M)"},
}
VERSIONS = {"python": "3.11.7", "torch": "2.15.0", "torchvision": "0.29.2", "moonshine": "0.1.0"}


def make_study(**changes: Any) -> Study:
    """A small digits study; keyword arguments replace whole sections."""
    content: dict[str, Any] = {
        "study": "digits",
        "data": {"name": "digits", "size": 16, "validation": 0.2, "test": 0.25, "split_seed": 0},
        "augment": {"crop_padding": 1, "flip": False},
        "teacher": {"network": "wrn-16-2", "seed": 0},
        "students": STUDENTS,
        "methods": {
            "kd": {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}},
            "at": {"at": {"form": "resolution-free", "beta": 1000.0}},
        },
        "seeds": [0, 1, 2],
        "training": {
            "epochs": 12,
            "batch_size": 64,
            "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
            "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.001},
            "precision": "auto",
        },
        "runtime": {"threads": 1, "device": "auto", "channels_last": "auto", "compile": False},
        "report": {"published": None},
        "ship": None,
    }
    return parse_study(content | changes)


def _dump(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def _history(path: Path, epochs: int, final: float, validates: bool, draw: random.Random) -> None:
    lines = ["epoch,lr,loss,ce,train_error_pct,validation_error_pct,validation_loss"]
    for epoch in range(epochs):
        progress = (epoch + 1) / epochs
        error = final + (85 - final) * math.exp(-5 * progress) * (1 - progress) + abs(draw.gauss(0, 0.1))
        validation = f"{error + 0.3:.4f},{error / 25:.6f}" if validates else ","
        lines.append(
            f"{epoch},{0.1 * (1 - progress):.6f},{error / 20:.6f},{error / 20:.6f},{error:.4f},{validation}"
        )
    path.write_text("\n".join(lines) + "\n")


def write_results(
    root: Path,
    study: Study,
    *,
    gains: Mapping[str, float] | None = None,
    noise: float = 0.15,
    examples: int = 10_000,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    diverged: Collection[str] = (),
    absent: Collection[str] = (),
    timings: bool = True,
) -> None:
    """Everything that ``collect`` and ``report`` read, below ``root``.

    ``gains`` are points of error that a method wins over scratch; ``diverged`` and ``absent`` are node names.
    """
    gains = {"kd": 0.1, "at": 0.8} if gains is None else gains
    sizes = SIZES if sizes is None else sizes
    validates = study.data.validation > 0
    base = root / nodes.RESULTS / study.study
    _dump(
        base / "data" / "dataset.json",
        {
            "name": study.data.name,
            "counts": {"train": 1078, "validation": 270 if validates else 0, "test": examples},
            "channels": 1,
            "height": 16,
            "width": 16,
            "num_classes": 10,
            "class_names": [str(digit) for digit in range(10)],
            "mean": [0.305],
            "std": [0.376],
            "sha256": {"data.safetensors": "a" * 64, "source": "b" * 64},
            "source": "scikit-learn's digits, enlarged from 8x8",
        },
    )

    def model(student: str, structure: Path, cost: Path) -> tuple[str, str, int, int]:
        parameters, macs = sizes[student]
        network = study.teacher.network if student == "teacher" else study.network_of(student)
        block = "S" if student == "teacher" else str(blocks_of(study, student))
        shape = {"input_shape": [1, 16, 16], "parameters": parameters, "macs": macs, "ops": macs + 245_000}
        blocks = {f"stage{stage}.{index}": block for stage in (1, 2, 3) for index in (0, 1)}
        _dump(
            root / structure,
            {
                "network": network,
                "num_classes": 10,
                "in_channels": 1,
                "blocks": blocks,
                "block": block,
                "taps": [],
            }
            | shape,
        )
        size = {"fp32": 4 * parameters + 12_000, "bf16": 2 * parameters + 12_000}
        own = {"bytes": size, "batch": 1, "compression": sizes["teacher"][0] / parameters}
        _dump(root / cost, shape | own | {"peak_activation_bytes": 131_072})
        return str(network), block, parameters, macs

    def trained(
        node: nodes.Node, about: tuple[str, str, int, int], student: str, method: str, seed: int
    ) -> None:
        draw, shared = random.Random(node.name), random.Random(f"{study.study} {seed}")
        size = math.log10(about[2] / sizes["teacher"][0])
        error = 3.0 - 2.6 * size - gains.get(method, 0.0) + shared.gauss(0, noise) + draw.gauss(0, noise)
        status = "diverged" if node.name in diverged else "completed"
        metrics: dict[str, Any] = {
            "study": study.study,
            "node": node.name,
            "student": student,
            "network": about[0],
            "block": about[1],
            "method": method,
            "seed": seed,
            "status": status,
            "epochs_run": study.training.epochs if status == "completed" else 2,
            "parameters": about[2],
            "macs": about[3],
            "train": {"loss": error / 20, "error_pct": error / 2},
            "validation": {"error_pct": error + 0.3, "loss": error / 25, "examples": 270}
            if validates
            else None,
            "test": _test(error, examples, draw),
        }
        if status == "diverged":
            metrics |= {"train": None, "validation": None, "test": None}
        _dump(root / node.folder / "metrics.json", metrics)
        _history(root / node.folder / "history.csv", metrics["epochs_run"], max(error, 0.05), validates, draw)
        config = {**configuration(study, node), "runtime": study.runtime.model_dump()}
        _dump(root / node.folder / "config.json", config)

    about = model("teacher", nodes.teacher(study.study).folder / "structure.json", _cost(study, "teacher"))
    trained(nodes.teacher(study.study), about, "teacher", "teacher", study.teacher.seed)
    for student in study.students:
        about = model(student, nodes.structure(study.study, student).outputs[0], _cost(study, student))
        for seed in study.seeds:
            trained(nodes.scratch(study.study, student, seed), about, student, "scratch", seed)
            for method in study.methods:
                trained(nodes.distil(study.study, student, method, seed), about, student, method, seed)
    for node in nodes.all_nodes(study):
        if timings:
            _timing(root, node)
        if node.name in absent:
            for path in node.outputs:
                (root / path).unlink(missing_ok=True)
            (root / node.timings).unlink(missing_ok=True)


def _test(error_pct: float, examples: int, draw: random.Random) -> dict[str, Any]:
    """Mistakes among the hardest images, which are the same for every network."""
    count = round(error_pct * examples / 100)
    wrong = sorted(draw.sample(range(2 * count), count))
    found = {"error_pct": count / examples * 100, "loss": 0.1, "examples": examples}
    return found | {"wrong": " ".join(map(str, wrong))}


def _cost(study: Study, student: str) -> Path:
    return nodes.measure(study.study, None if student == "teacher" else student).outputs[0]


def _timing(root: Path, node: nodes.Node) -> None:
    seconds = 14.2 if node.trains else 1.5
    content: dict[str, Any] = {
        "node": node.name,
        "seconds": seconds,
        "epoch_seconds": 1.1 if node.trains else None,
        "started": "2026-11-23T04:00:00Z",
        "finished": "2026-11-23T04:00:14Z",
        "host": "worker",
        "device": "cpu",
        "threads": 1,
        "versions": VERSIONS,
        "resumed": 0,
    }
    if node.stage.startswith("measure"):
        base = 2.0 if node.stage == "measure-teacher" else 2.6 if node.student == "GN" else 1.2
        content["latency_ms"] = {"1": base, "64": 40 * base}
    _dump(root / node.timings, content)


def table_rows(html: str) -> list[list[str]]:
    """The texts of the cells of every body row in a fragment, entities as they are."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in rows]
    return [row for row in cells if row]
