"""Tiny studies without images: what the fetch stage says of them, invented times of their steps, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moonshine.config.study import Study, parse_study
from moonshine.data.description import Description
from moonshine.datasets.kind import DatasetSize
from moonshine_workflow import cli
from moonshine_workflow.commands.estimating.steps import distinct, steps_of
from moonshine_workflow.commands.estimating.throughput import Throughput
from moonshine_workflow.graph import nodes
from tests.workflow import tiny

SIZE = DatasetSize(train=40, validation=10, test=20, shape=(1, 8, 8), classes=2)
SECONDS = {"ce": 0.75, "kd": 1.0, "at": 1.25, "hints": 0.5}


def a_study(**sections: Any) -> Study:
    content = tiny.study(**sections)
    if content["data"]["name"] == "arrays":
        content["data"]["sha256"] = "0" * 64
    return parse_study(content)


def prepare(size: DatasetSize = SIZE) -> None:
    """Write the dataset's description, as `fetch` would."""
    node = nodes.fetch("tiny")
    counts = {"train": size.train, "validation": size.validation, "test": size.test}
    channels, height, width = size.shape
    Description(
        name="arrays",
        counts=counts,
        channels=channels,
        height=height,
        width=width,
        num_classes=size.classes,
        class_names=tuple("ab"),
        mean=(0.5,),
        std=(0.5,),
        source="tiny",
        sha256={},
    ).write(node.folder / "dataset.json")
    (node.folder / "data.safetensors").touch()


def invented(study: Study) -> Throughput:
    """Times that depend on the loss alone."""
    steps, _ = steps_of(study, SIZE)
    times = {step.key: SECONDS[step.key.split(", ")[1]] for step in distinct(steps).values()}
    return Throughput(measured_on="a device", steps=times)


def save(study: Study, path: Path) -> None:
    invented(study).write(path)


def run(*arguments: str) -> int:
    return cli.main(["estimate", *arguments])
