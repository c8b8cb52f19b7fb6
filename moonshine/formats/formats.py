"""The registry of formats."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from importlib.util import find_spec
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine.formats.dc import DC
from moonshine.formats.format import Format
from moonshine.formats.onnx import ONNX
from moonshine.formats.onnx_int8 import ONNX_INT8
from moonshine.formats.safetensors import SAFETENSORS
from moonshine.formats.tflite.int8 import TFLITE_INT8
from moonshine.formats.torch_export import TORCH_EXPORT

logger = logging.getLogger(__name__)

FORMATS = {format.name: format for format in (SAFETENSORS, TORCH_EXPORT, ONNX, ONNX_INT8, TFLITE_INT8, DC)}
"""Every format by its name, in the order in which an export writes them."""


def chosen_formats(names: Iterable[str] | None = None, also: Collection[str] = ()) -> tuple[Format, ...]:
    """Return the formats of these names in the order of `FORMATS`.

    MoonshineError for none, for one that is unknown and for one that cannot be written and run with what is installed.
    Without names it returns those that are for all networks, and ``also``; but one that needs a set-up of its own is
    left out, with a warning, where that lacks, unless it is among ``also``.
    """
    usual = {format.name for format in FORMATS.values() if format.is_for_all}
    chosen = {*usual, *also} if names is None else set(names)
    if not chosen or chosen - FORMATS.keys():
        found = ", ".join(sorted(chosen - FORMATS.keys())) or "none"
        raise MoonshineError(f"formats: found {found}; allowed: {', '.join(FORMATS)}")
    formats = []
    for format in FORMATS.values():
        if format.name in chosen:
            if reason := _missing(format):
                if names is not None or format.missing is None or format.name in also:
                    raise MoonshineError(f"{format.name}: {reason}")
                logger.warning("%s is not written: %s", format.file, reason)
                continue
            formats.append(format)
    return tuple(formats)


def _missing(format: Format) -> str | None:
    if packages := [package for package in format.packages if find_spec(package) is None]:
        return f"needs {', '.join(packages)}, not installed here; pip install 'moonshine-distil[export]'"
    return format.missing() if format.missing else None


def format_of(path: Path) -> Format:
    """Return the format of an exported file, which its name tells; MoonshineError for a file that is none."""
    for format in FORMATS.values():
        if format.file == path.name and path.is_file():
            return format
    files = ", ".join(format.file for format in FORMATS.values())
    raise MoonshineError(f"{path}: no exported file; allowed: {files}")
