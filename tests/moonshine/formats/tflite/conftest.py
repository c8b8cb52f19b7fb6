"""A converter that gives the file that the real one gave of the tiny network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moonshine.files import sha256
from moonshine.formats.tflite.environment import LOCK, VARIABLE
from tests.moonshine.formats.tflite.tiny import CONVERTED

pytest.importorskip("ai_edge_litert")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Install a program in place of the converter's Python; ``$5`` is the file that it has to write."""

    def install(program: str) -> Path:
        python = tmp_path / "converter" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
        (python.parents[1] / "installed-lock.sha256").write_text(sha256(LOCK))
        monkeypatch.setenv(VARIABLE, str(python.parents[1]))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return python.parents[1]

    return install


@pytest.fixture
def converter(installed: Callable[[str], Path]) -> Path:
    return installed(f'cp "{CONVERTED}" "$5"')


@pytest.fixture
def no_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    return tmp_path / "nothing"
