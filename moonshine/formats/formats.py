"""The export formats, their file names, and the packages that they need."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from moonshine.errors import MoonshineError

FORMATS = {
    "safetensors": "network.safetensors",
    "torch-export": "network.pt2",
    "onnx": "network.onnx",
    "onnx-int8": "network-int8.onnx",
}
"""Format -> file name; the first comes with ``structure.json``."""

INT8 = "onnx-int8"
"""The one format whose numbers are not the network's own."""

ONNX = ("onnx", INT8)
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def check_formats(formats: Sequence[str]) -> None:
    """MoonshineError for a format that is unknown, and for ONNX where its packages are not installed."""
    if unknown := [name for name in formats if name not in FORMATS]:
        raise MoonshineError(f"formats: found {', '.join(unknown)}; allowed: {', '.join(FORMATS)}")
    if not formats:
        raise MoonshineError(f"formats: found none; allowed: {', '.join(FORMATS)}")
    if any(name in ONNX for name in formats):
        missing = [name for name in PACKAGES if find_spec(name) is None]
        if missing:
            raise MoonshineError(
                f"ONNX files need {', '.join(missing)}, not installed here; pip install 'moonshine-distil[export]'"
            )
