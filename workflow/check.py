"""The checks of a study beyond its schema: every network and block exists, fits, and is a student of the teacher."""

from __future__ import annotations

from moonshine.blocks import Block
from moonshine.config import Study
from moonshine.errors import MoonshineError
from moonshine.networks import assign
from workflow import nodes
from workflow.nodes import Node


def check_study(study: Study) -> None:
    """Lay out the teacher and every student; takes milliseconds, so everything that reads a study does it.

    Errors: ``MoonshineError`` naming the key of the study, the value found and what is allowed.
    """
    teacher = _layout("teacher.network", study.teacher.name, "S")
    for name in study.students:
        network, block = study.network_of(name), study.block_of(name)
        if _layout(f"students.{name}", network, block) == teacher and network == study.teacher.name:
            raise MoonshineError(
                f"students.{name}: {network} with {block} blocks is the teacher itself; allowed: another block, or a "
                f"smaller network"
            )
    _distinct(study)


def _distinct(study: Study) -> None:
    """Names join their parts with '-', which keys may hold: two nodes of one name would share logs and checkpoints."""
    first: dict[str, Node] = {}
    for node in nodes.all_nodes(study):
        other = first.setdefault(node.name, node)
        if other.args != node.args:
            raise MoonshineError(
                f"students and methods: {' with '.join(other.args[:2])} and {' with '.join(node.args[:2])} are both "
                f"called {node.name}; allowed: keys that stay apart when joined by '-'"
            )


def _layout(key: str, network: str, block: str) -> dict[str, Block]:
    try:
        return assign(network, block)
    except MoonshineError as error:
        raise MoonshineError(f"{key}: {error}") from None
