"""The converter's own Python environment: litert-torch refuses the newest torch, and brings jax and transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError, first_line
from moonshine.files import cache_folder, sha256

LOCK = Path(__file__).with_name("requirements.lock")
PROGRAM = Path(__file__).with_name("convert.py")
VARIABLE = "MOONSHINE_TFLITE"
"""Environment variable with the folder of the environment; without it, one in the cache folder."""
_READY = "installed-lock.sha256"
_SET_UP = "allowed: the environment that `moonshine setup-tflite` makes"


def environment_folder() -> Path:
    """Return the folder in which the converter is installed, or will be."""
    return Path(os.environ.get(VARIABLE) or cache_folder() / "tflite").absolute()


def missing_converter() -> str | None:
    """Return why there is no converter for this version of moonshine, or None."""
    ready = environment_folder() / _READY
    if not ready.is_file():
        return f"found no converter in {environment_folder()}; {_SET_UP}"
    if ready.read_text() != sha256(LOCK):
        return f"found the converter of another version of moonshine in {environment_folder()}; {_SET_UP}"
    return None


def set_up(folder: Path) -> None:
    """Install what the lock pins into a new virtual environment; MoonshineError says which step failed.

    With uv, where it is installed here, else with pip. Both take the package index that they are set up for.
    """
    python, ready = folder / "bin" / "python", folder / _READY
    make = [sys.executable, "-m", "venv", "--clear", str(folder)]
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        "-r",
        str(LOCK),
    ]
    if find_spec("uv"):
        make.append("--without-pip")
        uv = [sys.executable, "-m", "uv", "pip", "sync", "--quiet", "--python", str(python)]
        install = [*uv, "--require-hashes", str(LOCK)]
    ready.unlink(missing_ok=True)
    check = [str(python), "-I", str(PROGRAM), "--check"]
    for command in (make, install, check):
        heard = (
            subprocess.PIPE if command is check else None
        )  # the converter's packages warn when they are imported
        try:
            subprocess.run(command, check=True, stderr=heard, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or "").strip().splitlines()[-1:]
            reason = ": ".join([first_line(error), *said])
            raise MoonshineError(f"{folder}: the converter cannot be set up: {reason}") from None
    ready.write_text(sha256(LOCK))


def convert(program: Path, calibration: Path, file: Path, input_range: tuple[float, float]) -> None:
    """Write the INT8 file of a ``torch.export`` program, see `moonshine.formats.tflite.convert`.

    MoonshineError where there is no converter and where it fails, with the last line of what it said.
    """
    if reason := missing_converter():
        raise MoonshineError(f"tflite-int8: {reason}")
    command = [environment_folder() / "bin" / "python", "-I", PROGRAM, program, calibration, file]
    done = subprocess.run(
        [str(part) for part in (*command, *input_range)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = _last_json(done.stdout)
    if "error" in said or done.returncode:
        reason = said.get("error") or (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise MoonshineError(f"tflite-int8: the network cannot be converted: {reason}")


def _last_json(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text.strip().splitlines()[-1]))
    except (ValueError, IndexError):
        return {}
