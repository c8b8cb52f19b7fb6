"""Seconds that exporting a network takes, step by step.

    python benchmarks/export.py [--network wrn-40-2] [--block "G(4)"] [--size 32] [--images 1000] [--threads 2]

An untrained network and random images: neither changes the time. Wall time is printed beside the CPU time of this
process, which tells what other work on the machine cost; latencies are measured in processes of their own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from moonshine.data.store import Split
from moonshine.export.receipts import write_receipts
from moonshine.export.timings import measure_file
from moonshine.export.writing import CALIBRATION_BATCH, calibration_images, write_export
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS
from moonshine.formats.sizes import exported_bytes
from moonshine.formats.source import Source, plain_copy
from moonshine.structures.build import build, to_structure

CLASSES = 10
CALIBRATION = 512


@contextmanager
def step(name: str) -> Iterator[None]:
    """Prints what the context took."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    print(f"{name:<44} {time.perf_counter() - wall:7.1f} {time.process_time() - cpu:7.1f}", flush=True)


def main() -> None:
    """Print every step, then the whole."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="wrn-40-2")
    parser.add_argument("--block", default="G(4)")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = (3, options.size, options.size)
    network = plain_copy(build(options.network, options.block, CLASSES))
    names = tuple(f"class {label}" for label in range(CLASSES))
    about = About(
        shape, (0.5,) * 3, (0.25,) * 3, names, {}, to_structure(options.network, options.block, CLASSES)
    )
    images = torch.randint(256, (options.images, *shape)).to(torch.uint8)
    data = Split(images, torch.arange(options.images) % CLASSES)
    print(
        f"{options.network} {options.block}, {options.images} test images of {shape}, {options.threads} threads"
    )
    print(f"{'step':<44} {'wall s':>7} {'CPU s':>7}")
    with TemporaryDirectory() as name:
        folder = Path(name, "network")
        with step("everything: write_export"):
            write_export(
                network,
                folder,
                about,
                train=data,
                test=data,
                calibration=CALIBRATION,
                tolerance=1e-2,
                threads=options.threads,
            )
        source = Source(network, about, calibration_images(data, CALIBRATION).split(CALIBRATION_BATCH))
        with step("of that: trace (torch.export)"):
            source.program  # noqa: B018
        with step("of that: to ONNX"):
            source.onnx  # noqa: B018
        for format in FORMATS.values():
            with step(f"of that: {format.file}"):
                format.encode(source)
        for name in FORMATS:
            with step(f"of that: network and {name} on the test images"):
                write_receipts(network, folder, about, data, [name], options.threads)
        with step("apart: bytes of the INT8 file for a plan"):
            exported_bytes("onnx-int8", network, shape, about)
        for format in FORMATS.values():
            with step(f"apart: latency and memory of {format.file}"):
                measure_file(folder / format.file, shape, options.threads)


if __name__ == "__main__":
    main()
