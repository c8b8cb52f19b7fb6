"""Export of a trained network to a folder of verified files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from moonshine.data import rgb
from moonshine.data.batches import chunk_size, evaluation_images
from moonshine.data.store import AnySplit
from moonshine.errors import MoonshineError
from moonshine.export.folders import replace_folder
from moonshine.export.micro_example import write_micro_example
from moonshine.export.microcontroller import with_tflm
from moonshine.export.receipts import Exported, verify, write_receipts
from moonshine.files import write_bytes, write_json
from moonshine.formats.about import About
from moonshine.formats.format import NotConverted
from moonshine.formats.formats import chosen_formats
from moonshine.formats.source import Source, check_exported_logits, plain_copy
from moonshine.structures.structure import ExportedStructure

logger = logging.getLogger(__name__)

CALIBRATION_BATCH = 32
"""Batch size in calibration for images of up to 64x64 pixels; larger images come in smaller batches."""


def write_export(
    network: nn.Module,
    folder: Path | str,
    about: About,
    *,
    train: AnySplit,
    test: AnySplit,
    calibration: int,
    tolerance: float,
    threads: int = 1,
    formats: Iterable[str] | None = None,
    also: Collection[str] = (),
    judge: Callable[[nn.Module, Path], None] | None = None,
) -> Exported:
    """Write a trained network to ``folder`` in every format, run each file on the test set, and compare.

    ``network`` takes normalised images and returns logits; ``calibration`` training images determine the ranges of
    quantised files; ``formats`` and ``also`` are as for `write_files`, which also says what else is written, besides
    ``receipts.json`` and `moonshine.export.micro_example`. ``judge`` is called with the exported network and the folder
    of its files before any of them is run on the test set. The same network, versions and threads give the same bytes.
    Raises `NotConverted` for a network that cannot be exported and as `verify` does. Then, and if ``judge`` raises,
    ``folder`` is left as it was.
    """
    about.check()
    chosen_formats(formats, also)
    if not len(test):
        raise MoonshineError("test: found no images; allowed: at least one")
    network = plain_copy(network)
    check_exported_logits(network, about)
    _check_labels(test, about)
    with replace_folder(folder) as draft:
        names = write_files(network, draft, about, calibration_images(train, calibration), formats, also)
        if judge is not None:
            judge(network, draft)
        exported = write_receipts(network, draft, about, test, names, threads)
        exported = with_tflm(exported, draft, about, test)
        verify(exported, tolerance, about.is_dense)
        write_micro_example(draft, about, exported)
        write_json(draft / "receipts.json", asdict(exported))
    return exported


def _check_labels(test: AnySplit, about: About) -> None:
    kinds = ("a label per image", "a label per pixel")
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
    """Return ``count`` uint8 images evenly spaced over the training set, or all of them if it has fewer.

    Raises MoonshineError for a count below 1.
    """
    if count < 1:
        raise MoonshineError(f"calibration_images: found {count}; allowed: from 1")
    positions = torch.linspace(0, len(train) - 1, min(count, len(train))).round().long()
    return next(evaluation_images(train, [positions]))


def write_files(
    network: nn.Module,
    folder: Path,
    about: About,
    calibration: Tensor,
    formats: Iterable[str] | None = None,
    also: Collection[str] = (),
) -> list[str]:
    """Write the files, without checking them, and return the names of their formats.

    ``calibration`` holds uint8 images (N, C, H, W). Without ``formats`` it writes those for all networks, as far as
    they can be written here, and ``also``: one that needs a set-up of its own is left out, with a warning, where that
    or the conversion fails, unless it is among ``also``.
    Also writes ``structure.json`` and, if ONNX Runtime runs one of the files, an example: ``classify.py``, or
    ``segment.py`` for semantic segmentation, with the ``rgb.py`` that decodes its images.
    Raises `NotConverted`, naming the format and the reason, for a network that cannot be exported.
    """
    source = Source(
        plain_copy(network), about, calibration.split(chunk_size(CALIBRATION_BATCH, *calibration.shape[2:]))
    )
    wanted = chosen_formats(formats, also)
    written = []
    if about.structure:
        ExportedStructure(**about.rebuilt_from, input=about.values()).write(folder / "structure.json")
    for format in wanted:
        try:
            content = format.encode(source)
        except MoonshineError as error:
            if formats is None and format.missing and format.name not in also:
                logger.warning("%s is not written: %s", format.file, error)
                continue
            raise NotConverted(str(error)) from error
        write_bytes(folder / format.file, content)
        written.append(format.name)
    if any("onnxruntime" in format.runtime for format in wanted):
        _write_example(folder, "segment.py" if about.is_dense else "classify.py")
    return written


def _write_example(folder: Path, name: str) -> None:
    """Copy the example and the image decoding that training used."""
    decoding = Path(rgb.__file__)
    example = Path(__file__).with_name(name).read_text(encoding="utf-8")
    example = example.replace(f"from {rgb.__name__} import", f"from {decoding.stem} import")
    (folder / name).write_text(example, encoding="utf-8")
    shutil.copyfile(decoding, folder / decoding.name)
