"""A trained network comes back from its folder, and nothing else is taken for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from moonshine import MoonshineError, load
from moonshine.costs.cost import cost
from moonshine.files import write_json
from moonshine.networks.sources import sources
from moonshine.structures.artifacts import fill, load_weights, save_weights
from moonshine.structures.build import build, to_structure
from tests.messages import naming
from tests.moonshine.odd_networks import SHAPE, Dense, Tied

ARCHITECTURE = ("wrn-10-1", "BG(2,M)", 3, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(build(*ARCHITECTURE), tmp_path / "weights.safetensors")
    to_structure(*ARCHITECTURE).write(tmp_path / "structure.json")
    return tmp_path


def test_a_loaded_network_gives_the_same_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(*ARCHITECTURE)
    images = torch.randn(4, 1, 16, 16)
    network.train()(images)  # moves the running statistics, which belong to the file
    save_weights(network, tmp_path / "weights.safetensors")
    write_json(tmp_path / "structure.json", {**to_structure(*ARCHITECTURE).content(), "parameters": 1})
    loaded = load(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(images), network.eval()(images))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blocks": -1}, ["blocks", "-1"]),
        ({"blocks": {"stage1.0": 4}}, ["blocks.stage1.0", "4"]),
        ({"blocks": {"stage1.0": "x"}}, ["stage2.0"]),
        ({"num_classes": None}, ["num_classes", "None"]),
        ({"network": {}}, ["network", "{}"]),
        ({"num_classes": 10**12}, ["num_classes", 10**12]),
    ],
)
def test_a_damaged_structure_names_its_file(change: dict[str, Any], said: list[object], folder: Path) -> None:
    write_json(folder / "structure.json", to_structure(*ARCHITECTURE).content() | change)
    with pytest.raises(MoonshineError, match=naming("structure.json", *said)):
        load(folder)


def test_weights_are_the_same_bytes_in_either_memory_format(tmp_path: Path) -> None:
    network = build(*ARCHITECTURE)
    save_weights(network, tmp_path / "a")
    save_weights(network.to(memory_format=torch.channels_last), tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_tensor_of_several_names_is_written_once_and_fills_them_all(tmp_path: Path) -> None:
    network, again = Tied(), Tied()
    network.body.append(network.body[2])  # registered twice
    again.body.append(again.body[2])
    save_weights(network, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size == cost(network, SHAPE).bytes
    load_weights(again, tmp_path / "a")
    images = torch.ones(1, *SHAPE)
    assert torch.equal(again(images), network(images))
    with pytest.raises(MoonshineError, match=naming("missing", "body.0.weight", "body.1.weight")):
        fill(
            again,
            {name: own for name, own in network.state_dict().items() if ".weight" not in name},
            tmp_path,
        )


def test_weights_of_another_architecture_list_what_does_not_fit(folder: Path) -> None:
    other: nn.Module = build("wrn-10-1", "S", 3, 1)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(MoonshineError, match=r"another architecture: (missing|unexpected) .*more"):
        load_weights(other, folder / "weights.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_another_number_of_classes_names_both_shapes(folder: Path) -> None:
    with pytest.raises(MoonshineError, match=naming("head.weight", "(3, 64)", "(5, 64)")):
        load_weights(build("wrn-10-1", "BG(2,M)", 5, 1), folder / "weights.safetensors")


def test_what_structure_json_names_is_run_only_if_it_is_trusted(folder: Path) -> None:
    structure = to_structure(*ARCHITECTURE).content()
    hostile = {**structure, "network": "os:mkdir", "kwargs": {"path": str(folder / "made")}, "blocks": {}}
    write_json(folder / "structure.json", hostile)
    with pytest.raises(MoonshineError, match=naming("os:mkdir", "not trusted", "trust='os'")):
        load(folder)
    assert not (folder / "made").exists()
    odd = "tests.moonshine.odd_networks"
    own = {"network": f"{odd}:Dense", "kwargs": {}, "source_sha256": sources(f"{odd}:Dense")}
    write_json(folder / "structure.json", {**hostile, **own})
    save_weights(Dense(), folder / "weights.safetensors")
    for trust in ("tests", odd, f"{odd}:Dense"):
        assert isinstance(load(folder, trust=trust), Dense)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float8_e4m3fn, torch.bool, torch.complex64])
def test_codes_are_no_weights(folder: Path, dtype: torch.dtype) -> None:
    tensors = load_file(folder / "weights.safetensors")
    tensors["head.bias"] = torch.ones(3).to(dtype)
    save_file(tensors, folder / "weights.safetensors")
    with pytest.raises(MoonshineError, match=naming("head.bias", dtype, "torch.float32")):
        load(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_weights(folder: Path, dtype: torch.dtype) -> None:
    tensors = load_file(folder / "weights.safetensors")
    tensors["head.bias"] = torch.full((3,), 0.5, dtype=dtype)
    save_file(tensors, folder / "weights.safetensors")
    assert load(folder).state_dict()["head.bias"].tolist() == [0.5] * 3


@pytest.mark.parametrize("name", ["weights.safetensors", "structure.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_missing_or_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(MoonshineError, match=name):
        load(folder)
