"""Export of a trained network to a folder of verified files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from moonshine.data import rgb
from moonshine.data.batches import chunk_size, evaluation_images
from moonshine.data.store import AnySplit
from moonshine.errors import MoonshineError
from moonshine.export.folders import replace_folder
from moonshine.export.receipts import Exported, verify, write_receipts
from moonshine.files import write_bytes, write_json
from moonshine.formats.about import About
from moonshine.formats.format import NotConverted
from moonshine.formats.formats import FORMATS, chosen_formats
from moonshine.formats.source import Source, check_exported_logits, plain_copy
from moonshine.structures.structure import ExportedStructure

CALIBRATION_BATCH = 32
"""Calibration images that go through the network at once, of at most 64x64 pixels."""


def export_network(
    network: nn.Module,
    folder: Path | str,
    about: About,
    *,
    train: AnySplit,
    test: AnySplit,
    calibration: int,
    tolerance: float,
    threads: int = 1,
    formats: Iterable[str] = FORMATS,
    judge: Callable[[nn.Module, Path], None] | None = None,
) -> Exported:
    """Write a trained network into ``folder`` in every format, run each file on the test set, and compare.

    ``network`` takes normalised images and returns logits; ``calibration`` training images give the ranges of quantised
    files. Also written: ``receipts.json`` and what `write_files` adds. ``judge`` sees the exported network and the
    folder of its files before any of them meets the test set. The same network, versions and threads give the same
    bytes. `NotConverted` for a network that cannot be exported and as for `verify`: then, and after whatever ``judge``
    raises, ``folder`` is as it was.
    """
    about.check()
    names = [format.name for format in chosen_formats(formats)]
    if not len(test):
        raise MoonshineError("test: found no images; allowed: at least one")
    network = plain_copy(network)
    check_exported_logits(network, about)
    _check_labels(test, about)
    with replace_folder(folder) as draft:
        write_files(network, draft, about, calibration_images(train, calibration), names)
        if judge is not None:
            judge(network, draft)
        exported = write_receipts(network, draft, about, test, names, threads)
        verify(exported, tolerance, about.is_dense)
        write_json(draft / "receipts.json", asdict(exported))
    return exported


def _check_labels(test: AnySplit, about: About) -> None:
    kinds = ("a label for each image", "a label for each pixel")
    if test.is_dense != about.is_dense:
        raise MoonshineError(
            f"test: found {kinds[test.is_dense]}; allowed: {kinds[about.is_dense]}, because scored_classes is "
            f"{about.scored_classes}"
        )
    if about.scored_classes is not None and not (test.labels < about.scored_classes).any():
        raise MoonshineError(
            f"test: found no pixel of the {about.scored_classes} scored classes; allowed: at least one"
        )


def calibration_images(train: AnySplit, count: int) -> Tensor:
    """Return ``count`` images of the training set, evenly spaced over it, uint8; all of them where it has fewer.

    MoonshineError for a count below 1.
    """
    if count < 1:
        raise MoonshineError(f"calibration_images: found {count}; allowed: from 1")
    positions = torch.linspace(0, len(train) - 1, min(count, len(train))).round().long()
    return next(evaluation_images(train, [positions]))


def write_files(
    network: nn.Module, folder: Path, about: About, calibration: Tensor, formats: Iterable[str] = FORMATS
) -> None:
    """Write the files alone, unchecked; ``calibration`` are uint8 images (N, C, H, W).

    Also written: ``structure.json``, and an example where ONNX Runtime runs a file: ``classify.py``, or ``segment.py``
    where every pixel has a label, with the ``rgb.py`` that it reads images with.
    `NotConverted` for a network that cannot be exported, naming the format and the reason.
    """
    source = Source(
        plain_copy(network), about, calibration.split(chunk_size(CALIBRATION_BATCH, *calibration.shape[2:]))
    )
    wanted = chosen_formats(formats)
    if about.structure:
        ExportedStructure(**about.rebuilt_from, input=about.values()).write(folder / "structure.json")
    for format in wanted:
        try:
            content = format.encode(source)
        except MoonshineError as error:
            raise NotConverted(str(error)) from error
        write_bytes(folder / format.file, content)
    if any("onnxruntime" in format.runtime for format in wanted):
        _write_example(folder, "segment.py" if about.is_dense else "classify.py")


def _write_example(folder: Path, name: str) -> None:
    """Copy the example, and beside it the decoding that training used too."""
    decoding = Path(rgb.__file__)
    example = Path(__file__).with_name(name).read_text(encoding="utf-8")
    example = example.replace(f"from {rgb.__name__} import", f"from {decoding.stem} import")
    (folder / name).write_text(example, encoding="utf-8")
    shutil.copyfile(decoding, folder / decoding.name)
