"""The weights alone as safetensors; ``structure.json`` beside them says what network they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moonshine.errors import MoonshineError
from moonshine.formats.format import FileRunner, Format

if TYPE_CHECKING:
    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust


def encode(source: Source) -> bytes:
    """Return the fp32 weights; MoonshineError where the structure does not give this network back."""
    from moonshine.structures.artifacts import rebuild_with_weights, weights_bytes

    if source.about.structure is None:
        raise MoonshineError("about.structure: found none; allowed: that of the network, for safetensors")
    rebuild_with_weights(source.network, source.about.structure, source.about.trust)
    return weights_bytes(source.network)


def open_file(path: Path, threads: int, trust: Trust) -> FileRunner:
    """Return the network of ``structure.json`` with these weights; it also holds the normalisation."""
    from moonshine.formats.source import Normalised
    from moonshine.formats.torch_runs import torch_run
    from moonshine.structures.artifacts import load_weights
    from moonshine.structures.build import from_structure
    from moonshine.structures.structure import ExportedStructure

    structure = ExportedStructure.read(path.with_name("structure.json"))
    network = from_structure(structure, trust)
    load_weights(network, path)
    return torch_run(Normalised(network, structure.input["mean"], structure.input["std"]).eval())


SAFETENSORS = Format(
    name="safetensors",
    file="network.safetensors",
    title="safetensors",
    encode=encode,
    open=open_file,
    runtime=("moonshine.structures.artifacts", "moonshine.formats.source"),
)
