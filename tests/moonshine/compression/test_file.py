"""The file ``network.dc``: its bytes, its bound, and what is refused."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moonshine.compression import file
from moonshine.errors import MoonshineError
from tests.messages import naming

Tensors = dict[str, NDArray[Any]]


def pruned(shape: tuple[int, ...], kept: int, values: int, seed: int = 0) -> NDArray[np.float32]:
    """Return weights of which so many are not 0, with so many values."""
    random = np.random.default_rng(seed)
    flat = np.zeros(int(np.prod(shape)), np.float32)
    flat[random.choice(flat.size, kept, replace=False)] = random.standard_normal(values)[
        random.integers(values, size=kept)
    ]
    return flat.reshape(shape)


@pytest.fixture
def tensors() -> Tensors:
    return {
        "conv.weight": pruned((8, 4, 3, 3), 29, 7),
        "bn.weight": np.linspace(0, 1, 8, dtype=np.float32),
        "bn.num_batches_tracked": np.array(12),
        "fc.weight": np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32),
    }


def test_every_byte_is_as_described() -> None:
    weights = np.array([[0, 0, 0.5, 0, -1, 0, 0, 0, 0.5, 0]], np.float32)
    bias = np.array([3], np.float32)
    content = file.encode({"w": weights, "b": bias})
    header = zlib.compress(json.dumps([["w", [1, 10]], ["b", [1]]], separators=(",", ":")).encode(), 9)
    body = b"".join(
        (
            struct.pack("<4sIHHII", b"MDC1", len(header), 4, 2, 1, 1),
            header,
            bytes([0, 2, 2, 1]),  # gaps 2, 1 and 3, once each
            bytes([1, 1]),
            struct.pack("<II", 2, 3),
            struct.pack("<ff", -1, 0.5),
            struct.pack("<f", 3),
            bytes([0b11100000]),  # 2: 11, 1: 10, 3: 0
            bytes([0b10100000]),  # 0.5, -1, 0.5
        )
    )
    assert content == body + struct.pack("<I", zlib.crc32(body))


def test_what_was_written_is_read_to_the_bit(tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "network.dc"
    path.write_bytes(file.encode(tensors))
    found = file.read_file(path)
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert found[name].tobytes() == tensor.tobytes()


@pytest.mark.parametrize(
    "places", [[0], [999], [254], [255], [256], [509, 510], [0, 999], [300, 811], list(range(1000))]
)
def test_gaps_of_any_length(places: list[int]) -> None:
    weights = np.zeros((10, 100), np.float32)
    weights.ravel()[places] = 0.5
    assert np.array_equal(file.decode(file.encode({"w": weights}))["w"], weights)


def test_weights_with_values_of_their_own_are_stored_as_they_are() -> None:
    small = np.random.default_rng(0).standard_normal((12, 12)).astype(np.float32)
    assert small.tobytes() in file.encode({"w": small})


@pytest.mark.parametrize(("kept", "bits"), [(1, 1), (20, 2), (100, 5), (500, 8), (2000, 3)])
def test_no_file_exceeds_the_bound(kept: int, bits: int) -> None:
    shapes = [(2000, 1), (40, 50), (9, 4)]
    layers = {f"layer{index}.weight": np.zeros(shape, np.float32) for index, shape in enumerate(shapes)}
    counts = {name: min(kept, layer.size) for name, layer in layers.items()}
    bound = file.most_bytes(layers, counts, bits)
    for seed in range(5):
        filled: Tensors = {
            name: pruned(layers[name].shape, count, min(2**bits, count), seed)
            for name, count in counts.items()
        }
        assert len(file.encode(filled)) <= bound
    assert (
        bound < len(file.encode(filled)) + 1300
    )  # two tables of code lengths, a byte and more for each symbol


def test_an_untouched_network_has_the_bound_of_its_own_file(tensors: Tensors) -> None:
    plain = {name: tensor for name, tensor in tensors.items() if name != "conv.weight"}
    assert 0 <= file.most_bytes(plain, {}, 1) - len(file.encode(plain)) <= 256 + 2


def test_a_file_with_any_bit_flipped_is_refused(tensors: Tensors) -> None:
    content = file.encode(tensors)
    for position in range(len(content)):
        for bit in (0, 7):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            with pytest.raises(MoonshineError, match="cut short"):
                file.decode(bytes(damaged))


def test_a_file_that_is_cut_or_extended_is_refused(tensors: Tensors) -> None:
    content = file.encode(tensors)
    for damaged in (*(content[:size] for size in range(len(content))), content + b"\0"):
        with pytest.raises(MoonshineError, match="cut short"):
            file.decode(damaged)


def test_a_damaged_file_with_a_right_checksum_is_refused_or_read(tensors: Tensors) -> None:
    """Whatever is in a file, reading it ends in tensors or in the one error, and in little memory."""
    body = file.encode(tensors)[:-4]
    for position in range(len(body)):
        for value in (0, 255):
            damaged = body[:position] + bytes([value]) + body[position + 1 :]
            try:
                found = file.decode(damaged + struct.pack("<I", zlib.crc32(damaged)))
            except MoonshineError:
                continue
            assert sum(tensor.nbytes for tensor in found.values()) < 10**5


@pytest.mark.parametrize("shape", [[10**6, 10**6], [2**62, 4], [-1, 3], [1.5, 2], "no shape", [10**30, 1]])
def test_a_shape_that_the_weights_do_not_fill_is_refused(shape: object) -> None:
    header = zlib.compress(json.dumps([["w", shape]]).encode())
    body = b"".join(
        (
            struct.pack("<4sIHHII", b"MDC1", len(header), 1, 1, 1, 1),
            header,
            bytes([1, 1]),
            struct.pack("<IIf", 1, 0, 0.5),
            bytes(2),
        )
    )
    with pytest.raises(MoonshineError, match="cut short"):
        file.decode(body + struct.pack("<I", zlib.crc32(body)))


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming("network.dc", "no such file")):
        file.read_file(tmp_path / "network.dc")
    (tmp_path / "network.dc").write_bytes(b"MDC1")
    with pytest.raises(MoonshineError, match=naming("network.dc", "damaged")):
        file.read_file(tmp_path / "network.dc")


def test_numbers_that_the_file_cannot_hold_are_refused() -> None:
    with pytest.raises(MoonshineError, match="w is of complex64"):
        file.encode({"w": np.zeros(2, np.complex64)})
