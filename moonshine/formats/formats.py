"""The registry of formats."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine.formats.format import Format
from moonshine.formats.onnx import ONNX
from moonshine.formats.onnx_int8 import ONNX_INT8
from moonshine.formats.safetensors import SAFETENSORS
from moonshine.formats.torch_export import TORCH_EXPORT

FORMATS = {format.name: format for format in (SAFETENSORS, TORCH_EXPORT, ONNX, ONNX_INT8)}
"""Every format by its name, in the order in which an export writes them."""


def chosen_formats(names: Iterable[str]) -> tuple[Format, ...]:
    """Return the formats of these names in the order of `FORMATS`.

    MoonshineError for none, for one that is unknown and for one whose packages are not installed.
    """
    names = set(names)
    if not names or names - FORMATS.keys():
        found = ", ".join(sorted(names - FORMATS.keys())) or "none"
        raise MoonshineError(f"formats: found {found}; allowed: {', '.join(FORMATS)}")
    formats = tuple(format for format in FORMATS.values() if format.name in names)
    for format in formats:
        if missing := [package for package in format.packages if find_spec(package) is None]:
            raise MoonshineError(
                f"{format.name}: needs {', '.join(missing)}, not installed here; "
                "pip install 'moonshine-distil[export]'"
            )
    return formats


def format_of(path: Path) -> Format:
    """Return the format of an exported file, which its name tells; MoonshineError for a file that is none."""
    for format in FORMATS.values():
        if format.file == path.name and path.is_file():
            return format
    files = ", ".join(format.file for format in FORMATS.values())
    raise MoonshineError(f"{path}: no exported file; allowed: {files}")
