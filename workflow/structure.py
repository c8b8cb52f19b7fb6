"""structure: write what a student is, block by block, before anything trains."""

from __future__ import annotations

import sys

from moonshine.config import Study
from moonshine.costs import cost
from moonshine.files import read_json, write_json
from moonshine.networks import from_structure, to_structure
from workflow import nodes, stage


def describe(study: Study, student: str) -> dict[str, object]:
    """The structure of a student, or of ``teacher``, for the study's data, with its size at the study's input."""
    dataset = read_json(nodes.fetch(study.study).folder / "dataset.json")
    network, block = (
        (study.teacher.name, "S")
        if student == "teacher"
        else (study.network_of(student), study.block_of(student))
    )
    structure = to_structure(
        network, block, num_classes=dataset["num_classes"], in_channels=dataset["channels"]
    )
    shape = [dataset["channels"], dataset["height"], dataset["width"]]
    found = cost(from_structure(structure), tuple(shape))
    return {
        **structure,
        "input_shape": shape,
        "parameters": found.parameters,
        "macs": found.macs,
        "ops": found.ops,
    }


def run(job: stage.Job) -> None:
    (student,) = job.args
    structure = describe(job.study, student)
    write_json(job.node.outputs[0], structure)
    stage.logger.info("%d parameters, %d MACs", structure["parameters"], structure["macs"])


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.structure, ("student",)))
