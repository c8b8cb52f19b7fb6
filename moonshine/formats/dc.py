"""The weights Huffman-coded, pruned and shared ones in few bytes; ``structure.json`` beside says of what network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moonshine.formats.format import FileRunner, Format
from moonshine.formats.safetensors import check_structure, rebuilt

if TYPE_CHECKING:
    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust


def encode(source: Source) -> bytes:
    """Return the file of `moonshine.compression.file`; MoonshineError where the structure is not this network's.

    Without a structure it has its bytes, but cannot be opened.
    """
    from moonshine.compression import network

    if source.about.structure is not None:
        check_structure(source)
    return network.encode(source.network)


def open_file(path: Path, threads: int, trust: Trust) -> FileRunner:
    """Return the network of ``structure.json`` with these weights; it also holds the normalisation."""
    from moonshine.compression.network import fill_from

    return rebuilt(path, trust, fill_from)


DC = Format(
    name="dc",
    file="network.dc",
    title="Deep Compression",
    encode=encode,
    open=open_file,
    runtime=("moonshine.compression.network", "moonshine.formats.source"),
    is_for_all=False,
)
