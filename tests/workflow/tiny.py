"""A study that trains in a second: two classes of striped 8x8 images, the smallest network, few epochs."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import yaml

STUDY: dict[str, Any] = {
    "study": "tiny",
    "data": {
        "name": "arrays",
        "path": "stripes.npz",
        "sha256": "",
        "size": None,
        "validation": 0.2,
        "split_seed": 0,
    },
    "augment": {"crop_padding": 1, "flip": False},
    "teacher": {"network": "wrn-10-1", "seed": 0},
    "students": {"G4": {"block": "G(4)"}, "BG2-M": {"block": "BG(2,M)"}},
    "methods": {
        "kd": {"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}},
        "at": {"at": {"form": "resolution-free", "beta": 1000.0}},
    },
    "seeds": [0],
    "training": {
        "epochs": 2,
        "batch_size": 16,
        "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0005, "nesterov": False},
        "schedule": {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.01},
        "precision": "fp32",
    },
    "runtime": {"threads": 1, "device": "cpu", "channels_last": "auto", "compile": False},
    "report": {"published": None},
    "ship": None,
}


def study(**sections: Any) -> dict[str, Any]:
    """The tiny study with these sections replaced."""
    return {**copy.deepcopy(STUDY), **sections}


def write_arrays(path: Path, **changes: Any) -> str:
    """Write the images in the MedMNIST key convention and return the file's SHA-256; ``changes`` replace arrays."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 50), ("test", 20)):
        labels = np.arange(count) % 2
        images = random.integers(0, 100, (count, 8, 8, 1), dtype=np.uint8)
        stripes = (np.arange(8) % 2 * 120).astype(np.uint8)
        images[labels == 0] += stripes[:, None, None]
        images[labels == 1] += stripes[None, :, None]
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, **(arrays | changes))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_study(folder: Path, content: dict[str, Any] | None = None) -> Path:
    """Put ``params.yaml`` and the arrays it names into ``folder``."""
    content = copy.deepcopy(content or STUDY)
    if content["data"]["name"] == "arrays":
        content["data"]["sha256"] = write_arrays(folder / content["data"]["path"])
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
