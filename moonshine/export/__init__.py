"""Export of a trained network to files that run without this library, each with a receipt from its own runtime.

Loaded on first use: the processes that measure a file import its runtime and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "About": "moonshine.formats.about",
    "Card": "moonshine.export.card",
    "Exported": "moonshine.export.receipts",
    "FORMATS": "moonshine.formats.formats",
    "Latency": "moonshine.export.timings",
    "Receipt": "moonshine.export.receipts",
    "Timing": "moonshine.export.timings",
    "export_network": "moonshine.export.writing",
    "measure": "moonshine.export.timings",
    "model_card": "moonshine.export.card",
    "onnx_bytes": "moonshine.formats.sizes",
    "replacing": "moonshine.export.folders",
    "verify": "moonshine.export.receipts",
    "write_files": "moonshine.export.writing",
}

__all__ = [
    "FORMATS",
    "About",
    "Card",
    "Exported",
    "Latency",
    "Receipt",
    "Timing",
    "export_network",
    "measure",
    "model_card",
    "onnx_bytes",
    "replacing",
    "verify",
    "write_files",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'moonshine.export' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
