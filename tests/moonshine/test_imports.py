"""What is imported, and what is not, on the way to a network, to data and to a step of training: one process tells."""

from __future__ import annotations

import subprocess
import sys

# Each import of torch, torchvision or the compiler takes seconds, of every process of a study.
PROGRAM = """
import sys

def absent(*modules):
    assert not set(modules) & set(sys.modules), set(modules) & set(sys.modules)

# checking a study lays out every network
import moonshine.blocks.registry
from moonshine.structures.build import assign, sites
assign("wrn-40-0.75", "G(4)"), assign("resnet-34", "BG(2,M/8)"), sites("resnet-18-0.5"), assign("erfnet-0.5", "G(4)")
absent("torch")

import moonshine.data, moonshine.search.rivals
absent("sklearn", "torchvision", "PIL", "mlflow")

import torch
from moonshine.config.training import Optimizer
from moonshine.training.execution import Execution
from moonshine.training.updates.optimizer import make_optimizer
layer = torch.nn.Linear(2, 2)
Execution(torch.device("cpu"), torch.bfloat16).suiting(torch.nn.Conv2d(1, 1, 3), (1, 4, 4))
layer(torch.ones(1, 2)).sum().backward()
sgd = Optimizer(kind="sgd", lr=0.1, momentum=0.9, weight_decay=0.0005, nesterov=True)
make_optimizer(layer.parameters(), sgd).step(0.1)
absent("torch._dynamo")
"""


def test_nothing_is_imported_before_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
