"""teacher: train the network that the students learn from."""

from __future__ import annotations

import sys

from workflow import nodes, stage
from workflow.structure import describe
from workflow.training import train_node


def run(job: stage.Job) -> None:
    train_node(job, describe(job.study, "teacher"))


if __name__ == "__main__":
    sys.exit(stage.main(run, nodes.teacher, ()))
