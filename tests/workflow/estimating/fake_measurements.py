"""A file of measurements that nobody made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moonshine.config import Study
from tests.workflow.estimating.studies import TINY
from workflow.estimating.data import facts_of
from workflow.estimating.throughput import Measured, Throughput, write
from workflow.estimating.works import EVALUATION, cases

SECONDS = {"ce": 0.5, "kd": 0.75, "at": 1.0, EVALUATION: 0.25}


def measured(study: Study, path: Path) -> Path:
    """A file of invented measurements: seconds per image depend on the loss alone."""
    works = {case.work for both in cases(study, facts_of(study, TINY)).values() for case in both}
    found = [Measured(work=work, seconds_per_image=SECONDS[work.loss], peak_bytes=None) for work in works]
    how: dict[str, Any] = {
        "device": "a device",
        "dtype": "float32",
        "threads": 1,
        "channels_last": True,
        "compile": False,
        "torch": "2.15.0",
        "batches": 4,
        "batch_size": 16,
    }
    write(path, Throughput(**how, measurements=found))
    return path
