"""``moonshine setup-tflite``: the environment of the converter of ``.tflite`` files."""

from __future__ import annotations

import argparse
from typing import Any

_DESCRIPTION = """
Install the converter of .tflite files into a Python environment of its own, since it refuses the newest torch. The
packages are pinned and checked by hash; they take about 5 GB, most of it CUDA libraries that torch brings on Linux.
$MOONSHINE_TFLITE names another folder than the default, in ~/.cache/moonshine.
"""


def add_setup_tflite(subparsers: Any) -> None:
    """Add ``moonshine setup-tflite``."""
    parser = subparsers.add_parser(
        "setup-tflite",
        help="install the converter of .tflite files, for small devices",
        description=_DESCRIPTION,
    )
    parser.set_defaults(run=_set_up)


def _set_up(_: argparse.Namespace) -> int:
    from moonshine.formats.tflite.environment import environment_folder, missing_converter, set_up

    folder = environment_folder()
    if missing_converter():
        print(f"Installing the converter into {folder}", flush=True)
        set_up(folder)
    print(f"The converter is installed in {folder}.")
    return 0
