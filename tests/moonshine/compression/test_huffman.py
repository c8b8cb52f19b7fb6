"""Huffman codes: lengths from textbooks, bits by hand, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from moonshine.compression import huffman
from moonshine.errors import MoonshineError


@pytest.mark.parametrize(
    ("counts", "lengths"),
    [
        (
            [45, 13, 12, 16, 9, 5],
            [1, 3, 3, 3, 4, 4],
        ),  # Cormen et al., Introduction to Algorithms, figure 16.3
        ([1, 1, 2, 3, 5, 8, 13, 21], [7, 7, 6, 5, 4, 3, 2, 1]),  # the same, exercise 16.3-3
        ([4, 4, 4, 4], [2, 2, 2, 2]),
        ([0, 7, 0], [0, 1, 0]),
        ([], []),
    ],
)
def test_lengths_are_those_of_textbooks(counts: list[int], lengths: list[int]) -> None:
    assert huffman.code_lengths(np.array(counts, np.int64)).tolist() == lengths


def test_codes_count_up_by_length_and_symbol() -> None:
    # 'a' 10, 'b' 0, 'c' 110, 'd' 111: RFC 1951, section 3.2.2
    lengths = np.array([2, 1, 3, 3])
    assert huffman.encode(np.array([0, 1, 2, 3, 1]), lengths) == bytes([0b10011011, 0b10000000])


@pytest.mark.parametrize("count", [0, 1, 7, 5000, 200_000])
def test_what_was_encoded_is_decoded(count: int) -> None:
    symbols = np.random.default_rng(count).geometric(0.05, count).clip(max=255)
    lengths = huffman.code_lengths(np.bincount(symbols))
    content = huffman.encode(symbols, lengths)
    assert huffman.decode(content, lengths, count).tolist() == symbols.tolist()
    assert len(content) == -(-lengths[symbols].sum() // 8)


def test_codes_may_be_long() -> None:
    counts = [1, 1]
    while len(counts) < 40:
        counts.append(counts[-1] + counts[-2])  # Fibonacci's numbers: the longest codes
    lengths = huffman.code_lengths(np.array(counts))
    assert lengths.max() == 39
    symbols = np.arange(40).repeat(3)
    assert huffman.decode(huffman.encode(symbols, lengths), lengths, 120).tolist() == symbols.tolist()


@pytest.mark.parametrize(
    ("content", "lengths", "symbols"),
    [
        (b"\0", [1, 1], 9),  # more symbols than codes
        (b"\0\0", [1, 1], 8),  # more codes than symbols
        (b"\0", [1, 1], 0),
        (b"", [1, 1], 1),
        (b"\0", [1, 1, 1], 1),  # no prefix code
        (b"\0", [60, 1], 1),
        (b"\0", [], 1),
    ],
)
def test_what_is_not_so_many_codes_is_refused(content: bytes, lengths: list[int], symbols: int) -> None:
    with pytest.raises(MoonshineError):
        huffman.decode(content, np.array(lengths, np.int64), symbols)
