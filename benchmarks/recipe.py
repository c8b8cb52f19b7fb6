"""What each key of the recipe changes in the default study: the validation error of one student, key by key.

    python benchmarks/recipe.py [--study studies/digits.yaml] [--student B2] [--method at] [--seeds 5] [--keep FILE]

The study is trained as it is, and once with each of ``CHANGES``: the student from scratch with seeds 0, 1, ..., then a
teacher and the student with ``--method`` (``scratch``: neither). Differences from the study as it is are paired by
seed, and their 95 % intervals are Student's t over seeds. The test set is not looked at. ``--keep`` keeps each training
as a line of JSON, and those that are there already are not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

import moonshine
from moonshine.config import Study, load_study
from moonshine.config.study import parse_study
from moonshine.data.store import Dataset, load_dataset
from moonshine.preparation.prepare import prepare_dataset
from moonshine.training.execution import Execution, resolve
from moonshine.training.labels import label_loss
from moonshine.training.objective import Objective
from moonshine.training.train import train
from moonshine_workflow.tables.statistics import Estimate, estimate, paired_differences

ADAMW = {"kind": "adamw", "lr": 0.005, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.05}
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "as it is": {},
    "optimizer: adamw, lr 0.005": {"training": {"optimizer": ADAMW}},
    "schedule: one-cycle without warm-up": {
        "training": {"schedule": {"kind": "one-cycle", "warmup": 0.0, "start": 1.0, "end": 0.001}}
    },
    "label_smoothing: 0.1": {"training": {"label_smoothing": 0.1}},
    "clip_norm: 1.0": {"training": {"clip_norm": 1.0}},
    "ema: 0.9": {"training": {"ema": 0.9}},
    "cutout: 4": {"augment": {"cutout": 4}},
    "erasing: 0.25": {
        "augment": {"erasing": {"probability": 0.25, "scale": [0.02, 0.33], "ratio": [0.3, 3.3]}}
    },
    "trivial_augment: true": {"augment": {"trivial_augment": True}},
    "mixup: 0.2": {"augment": {"mixup": 0.2}},
    "cutmix: 1.0": {"augment": {"cutmix": 1.0}},
}
"""Changes of a study by section."""


def changed(study: Study, change: dict[str, dict[str, Any]]) -> Study:
    """Return a study with a change."""
    content = study.model_dump(mode="json", exclude_none=True)
    for section, values in change.items():
        content[section] |= values
    return parse_study(content | {"ship": None, "report": {"published": None}})


class Trainings:
    """Trainings of one student and its teacher; those in ``keep`` are not run again."""

    def __init__(self, dataset: Dataset, execution: Execution, student: str, keep: Path | None) -> None:
        self._dataset, self._execution, self._student, self._keep = dataset, execution, student, keep
        self._teachers: dict[str, nn.Module] = {}
        lines = keep.read_text(encoding="utf-8").splitlines() if keep and keep.exists() else []
        self.errors: dict[tuple[str, str], dict[int, float]] = {}
        for line in map(json.loads, lines):
            self.errors.setdefault((line["change"], line["method"]), {})[line["seed"]] = line["error_pct"]

    def run(self, name: str, study: Study, method: str, seed: int) -> None:
        """Train the student from scratch, or with a method from a teacher of the same recipe, unless it is kept."""
        if seed in self.errors.get((name, method), {}):
            return
        if method != "scratch" and name not in self._teachers:
            own = study.teacher.seed
            self._teachers[name] = self._network(study, "S", own)
            self._note(name, "teacher", own, self._train(study, self._teachers[name], None, own))
        student = self._network(study, study.students[self._student].block or "S", seed)
        of = (self._teachers[name], method) if method != "scratch" else None
        self._note(name, method, seed, self._train(study, student, of, seed))

    def _network(self, study: Study, block: str, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return moonshine.build(
            study.teacher.name,
            block,
            num_classes=self._dataset.num_classes,
            in_channels=self._dataset.input_shape[0],
        )

    def _train(self, study: Study, network: nn.Module, of: tuple[nn.Module, str] | None, seed: int) -> float:
        """Train a network, from scratch or with the method of a teacher; return its validation error in percent."""
        shared: dict[str, Any] = {"seed": seed}
        if of:
            teacher, method = of
            shared |= {"method": study.methods[method], "training": study.training, "augment": study.augment}
            history = moonshine.distil(network, teacher, self._dataset, execution=self._execution, **shared)
        else:
            objective = Objective(label_loss(study.training, ()))
            parts = (network, objective, self._dataset, study.training, study.augment, self._execution)
            history = train(*parts, **shared)
        return float(history.rows[-1]["validation_error_pct"] or 0)

    def _note(self, name: str, method: str, seed: int, error: float) -> None:
        self.errors.setdefault((name, method), {})[seed] = error
        if self._keep:
            line = {"change": name, "method": method, "seed": seed, "error_pct": round(error, 4)}
            with self._keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def table(errors: Mapping[tuple[str, str], Mapping[int, float]], ways: Sequence[str]) -> str:
    """Return the mean error of each way with its difference from the study as it is, and the teachers' errors."""
    columns = [title for way in ways for title in (way, "difference")]
    lines = [["key", *columns, *(["teacher"] if len(ways) > 1 else [])], ["---"] * (len(columns) + len(ways))]
    for name in CHANGES:
        cells = [name]
        for way in ways:
            pairs = paired_differences(errors[name, way], errors["as it is", way])
            difference = signed(estimate(pairs.values())) if CHANGES[name] else ""
            cells += [f"{estimate(errors[name, way].values()).mean:.2f}", difference]
        lines.append(
            cells + [f"{error:.2f}" for error in errors.get((name, "teacher"), {}).values()][: len(ways) - 1]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def signed(found: Estimate) -> str:
    """Return a difference with its interval."""
    half = "" if found.half_width is None else f" ± {found.half_width:.2f}"
    return f"{found.mean:+.2f}{half}".replace("-", "−")


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=Path("studies/digits.yaml"))
    parser.add_argument("--student", default="B2")
    parser.add_argument("--method", default="at")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    study, started = load_study(options.study), time.process_time()
    execution = resolve(study.runtime, study.training.precision)
    with tempfile.TemporaryDirectory() as folder:
        prepare_dataset(study.data, folder)
        trainings = Trainings(load_dataset(folder), execution, options.student, options.keep)
        ways = list(dict.fromkeys(("scratch", options.method)))
        for way, seed, (name, change) in product(ways, range(options.seeds), CHANGES.items()):
            trainings.run(name, changed(study, change), way, seed)
    chosen = {
        way: {seed: error for seed, error in errors.items() if seed < options.seeds}
        for way, errors in trainings.errors.items()
    }
    print(table(chosen, ways))
    print(f"{time.process_time() - started:.0f} s of CPU")


if __name__ == "__main__":
    main()
