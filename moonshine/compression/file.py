"""The file ``network.dc``: a network's tensors, its pruned and shared weights Huffman-coded.

Little-endian, in this order:

* ``MDC1``; the bytes of the header (u32), the entries of both tables of code lengths (u16 each), and the bytes of the
  codes of gaps and of labels (u32 each);
* header: zlib of a JSON list of ``[name, shape]``, or ``[name, shape, type]`` for types other than fp32;
* the lengths of the codes of gaps and of labels, a byte each: one Huffman code of each for the whole file;
* for each fp32 tensor of two dimensions or more, two u32: the number of distinct non-zero values, 0 if it is stored as
  it is, and of its gaps, 0 if no weight is 0;
* for each tensor its distinct values in ascending order (fp32), or all of it;
* the codes of the gaps: the zeros before each non-zero weight; 255 stands for so many zeros without a weight after;
* the codes of the labels: of each non-zero weight the index of its value;
* CRC-32 of everything before it.

Han et al. let a filler weight follow a gap that is too long; here it takes a gap only.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from moonshine.compression import huffman
from moonshine.compression.huffman import Numbers
from moonshine.errors import MoonshineError
from moonshine.files import unreadable

Tensors: TypeAlias = Mapping[str, NDArray[Any]]

MAGIC = b"MDC1"
ESCAPE = 255
"""Zeros that a gap without a weight stands for; also the largest number that is coded."""
VALUES = 256
"""Most distinct values of a tensor whose weights are coded."""
_FRAME = struct.Struct("<4sIHHII")
_CHECKSUM = struct.Struct("<I")
_FP32 = np.dtype("<f4")
_TYPES = ("<f4", "<f8", "<f2", "<i8", "<i4", "<i2", "|i1", "|u1", "|b1")
_LARGEST_HEADER = 2**24


def encode(tensors: Tensors) -> bytes:
    """Return the file of these tensors, which `decode` gives back to the bit (but for the sign of a zero).

    A tensor is coded if that is certain to take fewer bytes, which needs `VALUES` distinct values at most.
    MoonshineError for a type of number that the file cannot hold.
    """
    counts, values, gaps, labels = [], [], [], []
    for name, tensor in tensors.items():
        stored = np.ascontiguousarray(tensor, _little(name, tensor.dtype))
        if _may_be_coded(stored):
            flat = stored.ravel()
            kept = np.flatnonzero(flat)
            distinct = np.unique(flat[kept])
            if _is_smaller(len(distinct), len(kept), flat.size):
                own = _gaps(kept, flat.size) if len(kept) < flat.size else np.zeros(0, np.int64)
                counts += [len(distinct), len(own)]
                values.append(distinct.tobytes())
                gaps.append(own)
                labels.append(np.searchsorted(distinct, flat[kept]))
                continue
            counts += [0, 0]
        values.append(stored.tobytes())
    tables, streams = zip(_huffman(gaps), _huffman(labels), strict=True)
    header = _header(tensors)
    frame = _FRAME.pack(MAGIC, len(header), *map(len, tables), *map(len, streams))
    content = b"".join((frame, header, *tables, np.array(counts, "<u4").tobytes(), *values, *streams))
    return content + _CHECKSUM.pack(zlib.crc32(content))


def decode(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file's content; MoonshineError if it is cut short, damaged or none at all."""
    try:
        return _decode(content)
    except (
        MoonshineError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        struct.error,
        zlib.error,
    ) as error:
        raise MoonshineError(f"damaged, cut short or not of this format ({error})") from None


def read_file(path: Path | str) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file; MoonshineError naming it if it is missing or as for `decode`."""
    try:
        return decode(Path(path).read_bytes())
    except OSError as error:
        raise unreadable(Path(path), error) from None
    except MoonshineError as error:
        raise MoonshineError(f"{path}: {error}") from None


def most_bytes(tensors: Tensors, kept: Mapping[str, int], bits: int) -> int:
    """Return the most bytes that a file of such tensors takes when only ``kept`` weights are not 0.

    ``kept`` maps the tensors that will be pruned and shared, in ``2**bits`` values, to their number of weights. What
    the Huffman codes take depends on the weights; they are optimal, so no more than codes of ``bits`` bits for the
    labels, and Rice codes for the gaps.
    """
    size = _FRAME.size + len(_header(tensors)) + 256 + 2**bits + _CHECKSUM.size
    weights = zeros = 0
    for name, tensor in tensors.items():
        size += 2 * _CHECKSUM.size * _may_be_coded(tensor)
        if name not in kept or not _may_be_coded(tensor):
            size += tensor.nbytes
            continue
        own = kept[name]
        distinct = min(own, 2**bits)
        # with fewer distinct values than it may have, a small tensor is coded after all
        size += 4 * distinct + tensor.nbytes * (not _is_smaller(distinct, own, tensor.size))
        weights, zeros = weights + own, zeros + tensor.size - own
    gaps = weights + zeros // ESCAPE if zeros else 0
    rice = min(zeros // 2**low + gaps * (1 + low) for low in range(8))
    return size + math.ceil(rice / 8) + math.ceil(weights * bits / 8)


def _decode(content: bytes) -> dict[str, NDArray[Any]]:
    magic, header, *sizes = _FRAME.unpack_from(content)
    end = len(content) - _CHECKSUM.size
    if magic != MAGIC or _CHECKSUM.unpack_from(content, end) != (zlib.crc32(content[:end]),):
        raise MoonshineError("its checksum does not match")
    start = _FRAME.size

    def take(count: int) -> bytes:
        nonlocal start
        if count > end - start:
            raise MoonshineError("it has fewer bytes than it says")
        start += count
        return content[start - count : start]

    entries = json.loads(zlib.decompressobj().decompress(take(header), _LARGEST_HEADER))
    tables = [np.frombuffer(take(size), np.uint8).astype(np.int64) for size in sizes[:2]]
    # views of a single zero, whatever their shape
    shaped = {name: np.broadcast_to(np.zeros((), _type(*kind)), shape) for name, shape, *kind in entries}
    coded = [name for name, tensor in shaped.items() if _may_be_coded(tensor)]
    pairs = np.frombuffer(take(8 * len(coded)), "<u4").reshape(-1, 2).tolist()
    counts = {name: pair for name, pair in zip(coded, pairs, strict=True) if pair[0]}
    values = {
        name: np.frombuffer(take(4 * counts[name][0] if name in counts else tensor.nbytes), tensor.dtype)
        for name, tensor in shaped.items()
    }
    codes = [take(size) for size in sizes[2:]]
    if start != end:
        raise MoonshineError("it has more bytes than it says")
    gaps = huffman.decode(codes[0], tables[0], sum(own for _, own in counts.values()))
    places, first = {}, 0
    for name, (_, own) in counts.items():
        size = shaped[name].size
        if not own and size > 8 * len(codes[1]):
            raise MoonshineError(f"{name} has more weights than codes")
        places[name] = _places(gaps[first : first + own], size) if own else np.arange(size)
        first += own
    labels = huffman.decode(codes[1], tables[1], sum(map(len, places.values())))
    first = 0
    for name, own in places.items():
        weights = np.zeros(shaped[name].size, _FP32)
        weights[own] = values[name][labels[first : first + len(own)]]
        values[name] = weights
        first += len(own)
    return {name: found.reshape(shaped[name].shape) for name, found in values.items()}


def _gaps(places: Numbers, size: int) -> Numbers:
    """Return the numbers of zeros before each of the ``places`` of weights, and between the last and the end."""
    zeros = np.diff(places, prepend=-1, append=size) - 1
    ends = (zeros // ESCAPE + 1).cumsum()
    gaps = np.full(ends[-1], ESCAPE)
    gaps[ends - 1] = zeros % ESCAPE
    return gaps[:-1]  # what remains at the end is the shape's to say


def _places(gaps: Numbers, size: int) -> Numbers:
    ends_in_weight = gaps < ESCAPE
    covered = (gaps + ends_in_weight).cumsum()
    if not 0 <= size - covered[-1] < ESCAPE:
        raise MoonshineError("gaps of another shape")
    places: Numbers = covered[ends_in_weight] - 1
    return places


def _huffman(numbers: list[Numbers]) -> tuple[bytes, bytes]:
    """Return the code lengths of all numbers together, and their codes."""
    joined = np.concatenate([*numbers, np.zeros(0, np.int64)])
    lengths = huffman.code_lengths(np.bincount(joined))
    return lengths.astype(np.uint8).tobytes(), huffman.encode(joined, lengths)


def _header(tensors: Tensors) -> bytes:
    entries = [
        [name, tensor.shape, *([_little(name, tensor.dtype).str] if tensor.dtype != _FP32 else [])]
        for name, tensor in tensors.items()
    ]
    return zlib.compress(json.dumps(entries, separators=(",", ":")).encode(), 9)


def _little(name: str, kind: np.dtype[Any]) -> np.dtype[Any]:
    little = kind.newbyteorder("<")
    if little.str not in _TYPES:
        raise MoonshineError(f"{name} is of {kind}; allowed: {', '.join(_TYPES)}")
    return little


def _type(kind: str = _FP32.str) -> np.dtype[Any]:
    if kind not in _TYPES:
        raise MoonshineError(f"found numbers of type {kind!r}; allowed: {', '.join(_TYPES)}")
    return np.dtype(kind)


def _may_be_coded(tensor: NDArray[Any]) -> bool:
    return tensor.ndim > 1 and tensor.dtype == _FP32


def _is_smaller(distinct: int, kept: int, size: int) -> bool:
    """Return whether a coded tensor is certain to be smaller, with a byte for each gap and each label."""
    return 0 < distinct <= VALUES and 4 * distinct + 2 * kept < 4 * size
