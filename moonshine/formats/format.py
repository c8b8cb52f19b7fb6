"""Export format: how a network is written as one file, and how that file is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust

Floats: TypeAlias = "NDArray[np.float32]"
FileRunner = Callable[[Floats], Floats]
"""Pixels in [0, 1], (n, C, H, W) -> logits, (n, classes) or (n, classes, H, W)."""


class NotConverted(MoonshineError):
    """A network cannot be written in a format, or the file cannot be run or is not the network."""


@dataclass(frozen=True)
class Format:
    """A file format that networks are exported in.

    Its module must not import torch or a runtime: budgets are parsed, and files measured, without them. The functions
    import what they need.
    """

    name: str
    """As in a budget, ``1MB onnx-int8``, and in a receipt."""
    file: str
    title: str
    """In tables and sentences, before "file"."""
    encode: Callable[[Source], bytes]
    """The file's content, the same bytes for the same source; MoonshineError names the format and the reason."""
    open: Callable[[Path, int, Trust], FileRunner]
    """Opens the file as a function, with a number of threads; raises whatever its runtime raises.

    If it needs the network's own code, that runs only if it is trusted, see `moonshine.structures.artifacts.load`.
    ``structure.json`` is beside the file.
    """
    runtime: tuple[str, ...]
    """Modules that running a file needs; their memory is not counted as the file's."""
    packages: tuple[str, ...] = ()
    """Packages for writing and running that moonshine itself does not require."""
    missing: Callable[[], str | None] | None = None
    """Returns why a set-up of its own is not there, or None. Such a format is written only where all is installed."""
    is_exact: bool = True
    """Whether its logits equal the network's, up to rounding in fp32."""
    is_for_all: bool = True
    """Whether every export writes it, or only those that ask for it, because it has no point for most networks."""
