"""The format ``tflite-int8``: static INT8 with a scale per channel, for microcontrollers and phones."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from moonshine.errors import MoonshineError
from moonshine.files import cache_folder, sha256, write_bytes
from moonshine.formats.format import FileRunner, Floats, Format
from moonshine.formats.tflite.environment import LOCK, PROGRAM, convert, missing_converter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust

Int8s: TypeAlias = "NDArray[np.int8]"


def encode(source: Source) -> bytes:
    """Return the file, which takes and returns int8: a pixel less 128, and logits by a scale and a zero point."""
    import numpy as np
    import torch

    from moonshine.formats.source import with_dense_weights
    from moonshine.formats.tflite.flatbuffer import finish_flatbuffer
    from moonshine.formats.tflite.graph import pixel_range, to_quantisable

    if found := {str(batch.dtype) for batch in source.calibration} - {"torch.uint8"}:
        raise MoonshineError(f"tflite-int8: calibration images are {', '.join(found)}; allowed: torch.uint8")
    limits = pixel_range(source.about)
    pixels = torch.cat(tuple(source.calibration)).float() / 255
    images = (limits[0] + (limits[1] - limits[0]) * pixels).numpy()
    program = to_quantisable(with_dense_weights(source.network), source.about)
    tensors = {**program.state_dict, **program.constants, "calibration": torch.from_numpy(images)}
    digest = hashlib.sha256(f"{program.graph} {limits} {sha256(LOCK)} {sha256(PROGRAM)}".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.detach().numpy().tobytes())

    def converted() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            traced, given, file = (
                Path(folder, name) for name in ("program.pt2", "images.npy", "int8.tflite")
            )
            torch.export.save(program, traced)
            np.save(given, images)
            convert(traced, given, file, limits)
            return file.read_bytes()

    return finish_flatbuffer(_remembered(digest.hexdigest(), converted), source.about.text())


def _remembered(key: str, make: Callable[[], bytes]) -> bytes:
    """Return a file that was converted before, by whatever command; a conversion takes a quarter of a CPU minute."""
    path = cache_folder() / "tflite-files" / key
    with suppress(OSError):
        return path.read_bytes()
    content = make()
    with suppress(MoonshineError):
        write_bytes(path, content)
    return content


def open_file(path: Path, threads: int, trust: Trust) -> FileRunner:
    """Return the file in LiteRT, on the CPU, one image after another."""
    file = Int8File.open(path, threads)

    def run(pixels: Floats) -> Floats:
        return file.logits(file.run(to_int8(pixels)))

    return run


def to_int8(pixels: Floats) -> Int8s:
    """Return pixels in [0, 1], (n, C, H, W), as the file takes them: (n, H, W, C), from -128 to 127."""
    import numpy as np

    return (np.rint(255 * pixels) - 128).astype(np.int8).transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class Int8File:
    """An open file: ``run`` maps int8 images (n, H, W, C) to int8 logits (n, classes) or (n, H, W, classes)."""

    run: Callable[[Int8s], Int8s]
    scale: float  # of the logits
    zero_point: int

    @classmethod
    def open(cls, path: Path, threads: int, *, reference: bool = False) -> Int8File:
        """Open a file in LiteRT, with its fast kernels or those that define the results (``reference``)."""
        import numpy as np
        from ai_edge_litert import interpreter as litert

        kinds = litert.OpResolverType
        interpreter = litert.Interpreter(
            str(path),
            num_threads=threads,
            experimental_op_resolver_type=kinds.BUILTIN_REF if reference else kinds.AUTO,
        )
        interpreter.allocate_tensors()
        (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

        def one(image: Int8s) -> Int8s:
            interpreter.set_tensor(taken["index"], image[None])
            interpreter.invoke()
            return interpreter.get_tensor(given["index"])

        return cls(lambda images: np.concatenate([one(image) for image in images]), *given["quantization"])

    def logits(self, found: Int8s) -> Floats:
        """Return the logits that int8 values stand for, with the classes second, as networks return them."""
        import numpy as np

        values = (found.astype(np.float32) - self.zero_point) * np.float32(self.scale)
        return np.moveaxis(values, -1, 1)


TFLITE_INT8 = Format(
    name="tflite-int8",
    file="network-int8.tflite",
    title="INT8 TFLite",
    encode=encode,
    open=open_file,
    runtime=("ai_edge_litert.interpreter",),
    packages=("ai_edge_litert",),
    missing=missing_converter,
    is_exact=False,
)
