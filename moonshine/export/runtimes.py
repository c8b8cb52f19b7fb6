"""Exported files as callables on pixels, each loading its own runtime and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from moonshine.networks.models import Trust

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]
"""Pixels in [0, 1], (n, C, H, W) -> logits, (n, classes) or (n, classes, H, W)."""


@dataclass(frozen=True)
class Runtime:
    """What a kind of file needs: modules to import, and how it is opened with a number of threads."""

    imports: tuple[str, ...]
    open: Callable[[Path, int, Trust], Run]


def open_file(path: Path, threads: int = 1, trust: Trust = ()) -> Run:
    """An exported file as a function; the ending of its name says which runtime.

    ONNX Runtime computes with ``threads``, torch with those that the process has set. Weights need the code of their
    network, which is run as far as ``trust`` goes (see `moonshine.structures.artifacts.load`). Raises whatever the
    runtime does for a file that it cannot open.
    """
    return RUNTIMES[path.suffix].open(path, threads, trust)


def _onnxruntime(path: Path, threads: int, trust: Trust) -> Run:
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(pixels: Floats) -> Floats:
        return session.run(None, {"images": pixels})[0]

    return run


def _torch_export(path: Path, threads: int, trust: Trust) -> Run:
    import torch

    return _torch(torch.export.load(path).module())


def _safetensors(path: Path, threads: int, trust: Trust) -> Run:
    """Weights and the ``structure.json`` beside them, which also has the normalisation."""
    from moonshine.formats.graphs import Normalised
    from moonshine.structures.artifacts import load_weights
    from moonshine.structures.build import from_structure
    from moonshine.structures.structure import ExportedStructure

    structure = ExportedStructure.read(path.with_name("structure.json"))
    network = from_structure(structure, trust)
    load_weights(network, path)
    return _torch(Normalised(network, structure.input["mean"], structure.input["std"]).eval())


def _torch(module: Any) -> Run:
    import torch

    from moonshine.networks.passes import memory_format

    layouts: list[torch.memory_format] = []

    def run(pixels: Floats) -> Floats:
        images = torch.from_numpy(pixels)
        with torch.inference_mode():
            if not layouts:
                # channels_last: 40 % less time for WRN-40-2 with G(4), one thread
                layouts.append(memory_format(module, images))
            return module(images.contiguous(memory_format=layouts[0])).numpy()

    return run


RUNTIMES = {
    ".onnx": Runtime(("onnxruntime",), _onnxruntime),
    ".pt2": Runtime(("torch.export",), _torch_export),
    ".safetensors": Runtime(("moonshine.structures.artifacts", "moonshine.formats.graphs"), _safetensors),
}
