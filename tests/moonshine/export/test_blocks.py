"""Networks with branches, a channel shuffle and generated weights as files: the same logits, rebuilt and in ONNX."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moonshine.data.store import Split
from moonshine.export.writing import write_export
from moonshine.formats.about import About
from moonshine.structures.build import from_structure, to_structure

BLOCKS = {"stage1.0": "SHUF(4,2)", "stage2.0": "FIRE(4)", "stage3.0": "TT(4)"}


def test_files_of_blocks_that_are_no_chain_of_convolutions(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(0)
    structure = to_structure("wrn-10-1", BLOCKS, 3, 1)
    network = from_structure(structure).eval()
    images = Split(torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (5,)))
    about = About((1, 8, 8), (0.5,), (0.25,), ("a", "b", "c"), {"kind": "none"}, structure)
    found = write_export(
        network,
        tmp_path / "out",
        about,
        train=images,
        test=images,
        calibration=5,
        tolerance=1e-4,
        formats=["safetensors", "torch-export", "onnx"],
    )
    sizes = {receipt.format: receipt.bytes for receipt in found.receipts}
    for format in ("torch-export", "onnx"):  # a graph holds the tensor train's dense kernel
        assert sizes[format] > 2 * sizes["safetensors"]
    graph = onnx.load(tmp_path / "out" / "network.onnx").graph
    assert not {"MatMul", "Einsum"} & {node.op_type for node in graph.node}
    assert [64, 64, 3, 3] in [list(tensor.dims) for tensor in graph.initializer]
