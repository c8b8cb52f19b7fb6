"""Size of a safetensors file, computed without writing it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from moonshine.errors import MoonshineError

# In the order in which a safetensors file stores its data; within a type, by name.
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

FRAME_BYTES = 8 + len("{}") + 7
"""Most bytes of a file besides its tensors and their header entries: header length, braces and padding."""


def file_bytes(tensors: Mapping[str, Tensor], floats: torch.dtype = torch.float32) -> int:
    """Return the exact size of the safetensors file of these tensors, floating point ones stored as ``floats``.

    Format: 8 bytes of header length, a JSON header padded with spaces to a multiple of 8, then the data. Tensors that
    are one object (tied weights) are stored once. MoonshineError for a type that safetensors cannot store.
    """
    stored = {name: (_dtype(name, tensor, floats), tensor) for name, tensor in untied(tensors).items()}
    order = list(_DTYPES)
    header, end = {}, 0
    for name, (dtype, tensor) in sorted(stored.items(), key=lambda each: (order.index(each[1][0]), each[0])):
        start, end = end, end + tensor.numel() * dtype.itemsize
        header[name] = _entry(dtype, tensor, start, end)
    return 8 + math.ceil(_text_bytes(header) / 8) * 8 + end


def data_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the bytes of the tensors' data in the fp32 file."""
    return sum(t.numel() * _dtype(name, t, torch.float32).itemsize for name, t in tensors.items())


def most_header_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Return the most bytes that the tensors add to the fp32 file's header: offsets count as ten digits each."""
    offset = 10**10 - 1
    entries = (
        _text_bytes({name: _entry(_dtype(name, tensor, torch.float32), tensor, offset, offset)})
        for name, tensor in tensors.items()
    )
    return sum(entry - len("{}") + len(",") for entry in entries)


def untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by their first name only."""
    first: dict[int, str] = {}
    for name, tensor in tensors.items():
        first.setdefault(id(tensor), name)
    return {name: tensors[name] for name in first.values()}


def _dtype(name: str, tensor: Tensor, floats: torch.dtype) -> torch.dtype:
    dtype = floats if tensor.is_floating_point() else tensor.dtype
    if dtype not in _DTYPES:
        raise MoonshineError(f"{name} is of {dtype}; allowed: {', '.join(map(str, _DTYPES))}")
    return dtype


def _entry(dtype: torch.dtype, tensor: Tensor, start: int, end: int) -> dict[str, Any]:
    return {"dtype": _DTYPES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}


def _text_bytes(header: Mapping[str, Any]) -> int:
    return len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
