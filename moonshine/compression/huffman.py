"""Canonical Huffman codes over numbers below 256, as bits of numpy arrays."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from moonshine.errors import MoonshineError

Numbers: TypeAlias = NDArray[np.int64]

_WINDOW = 56
"""Longest code: longer ones need more symbols than fit into memory (Fibonacci's numbers are the worst counts)."""
_CHUNK = 2**16
"""Bytes that are decoded at a time, which bounds the memory this takes."""


def code_lengths(counts: Numbers) -> Numbers:
    """Return the length in bits of each symbol's code, given how often it occurs; 0 for one that does not.

    The code is optimal (Huffman, 1952). A symbol that occurs alone has a code of one bit.
    """
    lengths = np.zeros(len(counts), np.int64)
    present = np.flatnonzero(counts)
    order = count()  # ties are resolved by age, which makes the code reproducible
    heap = [(int(counts[symbol]), next(order), [int(symbol)]) for symbol in present]
    if len(heap) == 1:
        lengths[present] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (few, _, left), (more, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (few + more, next(order), left + right))
    return lengths


def encode(symbols: Numbers, lengths: Numbers) -> bytes:
    """Return the codes of ``symbols`` one after the other, most significant bit first, padded with zeros to bytes."""
    taken = lengths[symbols]
    ends = taken.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    places = np.repeat(ends, taken) - 1 - np.arange(total)  # of each bit within its code, 0 the last
    codes = np.repeat(_codes(lengths)[symbols], taken)
    return np.packbits((codes >> places & 1).astype(np.uint8)).tobytes()


def decode(content: bytes, lengths: Numbers, symbols: int) -> Numbers:
    """Return the ``symbols`` that were encoded with these lengths.

    MoonshineError unless ``content`` consists of exactly so many codes and their padding.
    """
    present = np.flatnonzero(lengths)
    order = present[np.lexsort((present, lengths[present]))]
    lengths = lengths[order]
    if symbols and (not len(order) or lengths[-1] > _WINDOW or (0.5**lengths).sum() > 1):
        raise MoonshineError("lengths of no prefix code")
    starts = _codes(lengths) << (_WINDOW - lengths)  # ascending
    padded = np.frombuffer(content + bytes(8), np.uint8).astype(np.int64)
    found: list[int] = []
    place = 0
    for first in range(0, len(content), _CHUNK):
        # which code begins at each bit; then only those are taken that follow one another
        ranks = np.searchsorted(starts, _windows(padded[first : first + _CHUNK + 8]), side="right") - 1
        names, steps = order[ranks].tolist(), lengths[ranks].tolist()
        place -= 8 * first
        while place < len(steps) and len(found) < symbols:
            found.append(names[place])
            place += steps[place]
        place += 8 * first
    if len(found) < symbols or -(-place // 8) != len(content):
        raise MoonshineError(f"found {len(found)} codes in {place} bits; expected {symbols}")
    return np.array(found, np.int64)


def _windows(content: Numbers) -> Numbers:
    """Return the 56 bits that follow each bit of ``content``, except those of its last 8 bytes."""
    size = len(content) - 8
    words = np.zeros(size, np.int64)
    for byte in range(7):
        words = words << 8 | content[byte : byte + size]
    shifts = np.arange(8)
    following = words[:, None] << shifts | content[7 : 7 + size, None] >> (8 - shifts)
    return (following & ((1 << _WINDOW) - 1)).ravel()


def _codes(lengths: Numbers) -> Numbers:
    """Return the canonical code of each symbol: counting up, by length and then by symbol."""
    codes = np.zeros(len(lengths), np.int64)
    code = previous = 0
    for symbol in np.lexsort((np.arange(len(lengths)), lengths)):
        if length := int(lengths[symbol]):
            code <<= length - previous
            codes[symbol], code, previous = code, code + 1, length
    return codes
