"""Size of a safetensors file, computed without writing it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from moonshine.errors import MoonshineError

# The order in which a safetensors file stores its data, and so counts its offsets; within a type, by name.
_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = list(_DTYPES)
_ALIGNED = 8

LEAST_BYTES = 9
"""Of a file besides the entries and data of its tensors, without padding."""

MOST_PADDING = _ALIGNED - 1


@dataclass(frozen=True, order=True)
class Stored:
    """A tensor as a file holds it; in the order of the file: by ``rank`` of its type, then by name."""

    rank: int
    name: str
    bytes: int
    described: int  # bytes of its entry in the header and of the comma after it, without its two offsets

    def entry_bytes(self, start: int) -> int:
        """Bytes of its entry in the header, and the comma after it, if its data begin at ``start``."""
        return self.described + len(str(start)) + len(str(start + self.bytes))


def stored(tensors: Mapping[str, Tensor], floats: torch.dtype = torch.float32) -> list[Stored]:
    """The tensors in the order of a file, floating point ones as ``floats``.

    Tensors that are one object (tied weights) are stored once. MoonshineError for a type that no file holds.
    """
    rows: dict[int, Stored] = {}
    for name, tensor in tensors.items():
        dtype = floats if tensor.is_floating_point() else tensor.dtype
        if dtype not in _DTYPES:
            raise MoonshineError(f"{name} is of {dtype}; allowed: {', '.join(map(str, _ORDER))}")
        # the braces around this one entry are its comma and one byte too many, as are the two noughts
        entry = {name: {"dtype": _DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [0, 0]}}
        described = len(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()) - 3
        row = Stored(_ORDER.index(dtype), name, tensor.numel() * dtype.itemsize, described)
        rows.setdefault(id(tensor), row)
    return sorted(rows.values())


def file_bytes(tensors: Mapping[str, Tensor], floats: torch.dtype = torch.float32) -> int:
    """The exact size of the safetensors file of these tensors, with floating point ones stored as ``floats``.

    Format: 8 bytes of header length, a JSON header padded with spaces to a multiple of 8, then the data.
    MoonshineError as for `stored`.
    """
    return stored_bytes(stored(tensors, floats))


def stored_bytes(rows: Iterable[Stored]) -> int:
    """The exact size of the file of these rows, in any order."""
    header, end = 0, 0
    for row in sorted(rows):
        header += row.entry_bytes(end)
        end += row.bytes
    # braces around all entries, and no comma after the last
    text = header + 1 if header else len("{}")
    return 8 + math.ceil(text / _ALIGNED) * _ALIGNED + end
