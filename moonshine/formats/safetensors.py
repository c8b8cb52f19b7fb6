"""The weights alone as safetensors; ``structure.json`` beside them says what network they belong to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from moonshine.errors import MoonshineError
from moonshine.formats.format import FileRunner, Format

if TYPE_CHECKING:
    from torch import nn

    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust


def check_structure(source: Source) -> None:
    """MoonshineError where the structure does not give the network back."""
    from moonshine.structures.artifacts import rebuild_with_weights

    if source.about.structure is None:
        raise MoonshineError(
            "about.structure: found none; allowed: that of the network, for its weights alone"
        )
    rebuild_with_weights(source.network, source.about.structure, source.about.trust)


def encode(source: Source) -> bytes:
    """Return the fp32 weights; MoonshineError as for `check_structure`."""
    from moonshine.structures.artifacts import weights_bytes

    check_structure(source)
    return weights_bytes(source.network)


def rebuilt(path: Path, trust: Trust, fill_from: Callable[[nn.Module, Path], None]) -> FileRunner:
    """Return the network of ``structure.json`` beside ``path``, filled by ``fill_from``, with the normalisation."""
    from moonshine.formats.source import Normalised
    from moonshine.formats.torch_runs import torch_run
    from moonshine.structures.build import from_structure
    from moonshine.structures.structure import ExportedStructure

    structure = ExportedStructure.read(path.with_name("structure.json"))
    network = from_structure(structure, trust)
    fill_from(network, path)
    return torch_run(Normalised(network, structure.input["mean"], structure.input["std"]).eval())


def open_file(path: Path, threads: int, trust: Trust) -> FileRunner:
    """Return the network of ``structure.json`` with these weights; it also holds the normalisation."""
    from moonshine.structures.artifacts import load_weights

    return rebuilt(path, trust, load_weights)


SAFETENSORS = Format(
    name="safetensors",
    file="network.safetensors",
    title="safetensors",
    encode=encode,
    open=open_file,
    runtime=("moonshine.structures.artifacts", "moonshine.formats.source"),
)
