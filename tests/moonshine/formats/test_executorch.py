"""The recipe for ExecuTorch in the docs, where that is installed: it is no dependency of the project."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from moonshine.formats import torch_export
from tests.moonshine.formats.tflite.tiny import images, logits, source

runtime = pytest.importorskip("executorch.runtime")
DOCS = Path(__file__).parents[3] / "docs" / "small-devices.md"


def test_the_recipe_gives_a_file_that_answers_as_the_network_does(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    pixels = images(8, seed=1)
    (tmp_path / "network.pt2").write_bytes(torch_export.encode(source()))
    torch.save(pixels.float() / 255, tmp_path / "images.pt")
    subprocess.run([sys.executable, "-c", recipe], cwd=tmp_path, capture_output=True, check=True)
    method = runtime.Runtime.get().load_program(tmp_path / "network.pte").load_method("forward")
    found = torch.cat([method.execute([image])[0] for image in (pixels.float() / 255).split(1)])
    expected = logits(pixels)
    assert (found - expected).abs().max() < 0.1 * (expected.max() - expected.min())
