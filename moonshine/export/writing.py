"""Export of a trained network to a folder of verified files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor, nn

from moonshine.data import AnySplit, rgb
from moonshine.errors import MoonshineError
from moonshine.export.folders import replacing
from moonshine.export.receipts import Exported, verify, write_receipts
from moonshine.files import write_bytes, write_json
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS, INT8, ONNX, check_formats
from moonshine.formats.graphs import check_logits, plain_copy, program_bytes, to_program
from moonshine.formats.onnx_graphs import finish, to_onnx
from moonshine.formats.quantisation import calibration_images, quantise
from moonshine.structures.artifacts import rebuilt, save_weights
from moonshine.structures.structure import ExportedStructure


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
    formats: Sequence[str] = tuple(FORMATS),
    judge: Callable[[nn.Module, Path], None] | None = None,
) -> Exported:
    """Writes a trained network into ``folder`` in every format, runs each file on the test set, and compares.

    ``network`` takes normalised images and returns logits. ``calibration`` is how many training images the ranges of
    the INT8 file come from. Also written: ``structure.json``, ``receipts.json``, and an example where there is an ONNX
    file: ``classify.py``, or ``segment.py`` where every pixel has a label, with the ``rgb.py`` that it reads pictures
    with. ``judge`` sees the network that was exported and the folder of its files before any of them meets the test
    set. The same network, versions and threads give the same bytes. MoonshineError for a network that cannot be
    exported and as for `verify`: then, and after whatever ``judge`` raises, ``folder`` is as it was.
    """
    about.check()
    check_formats(formats)
    if not len(test):
        raise MoonshineError("test: found no images; allowed: at least one")
    network = plain_copy(network)
    check_logits(network, about)
    _check_labels(test, about)
    if "safetensors" in formats:
        if about.structure is None:
            raise MoonshineError("about.structure: found none; allowed: that of the network, for safetensors")
        rebuilt(network, about.structure, about.structure.network)
    with replacing(folder) as draft:
        write_files(network, draft, about, calibration_images(train, calibration), formats)
        if judge is not None:
            judge(network, draft)
        exported = write_receipts(network, draft, about, test, formats, threads)
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


def write_files(
    network: nn.Module,
    folder: Path,
    about: About,
    calibration: Tensor,
    formats: Iterable[str] = tuple(FORMATS),
) -> None:
    """The files alone, unchecked; ``calibration`` are uint8 images (N, C, H, W).

    MoonshineError for a network that cannot be exported, naming the format and the reason.
    """
    network = plain_copy(network)
    wanted = set(formats)
    if "safetensors" in wanted:
        save_weights(network, folder / FORMATS["safetensors"])
        ExportedStructure(**about.rebuilt_from, input=about.values()).write(folder / "structure.json")
    if wanted == {"safetensors"}:
        return
    program = to_program(network, about)
    if "torch-export" in wanted:
        write_bytes(folder / FORMATS["torch-export"], program_bytes(program, about))
    if not wanted & set(ONNX):
        return
    model = to_onnx(program)
    if INT8 in wanted:
        quantised = quantise(model, calibration)
        write_bytes(folder / FORMATS[INT8], finish(quantised, about, short_names=True))
    if "onnx" in wanted:
        write_bytes(folder / FORMATS["onnx"], finish(model, about, short_names=False))
    _write_example(folder, "segment.py" if about.is_dense else "classify.py")


def _write_example(folder: Path, name: str) -> None:
    """The example, and beside it the decoding that training used too."""
    decoding = Path(rgb.__file__)
    example = Path(__file__).with_name(name).read_text(encoding="utf-8")
    example = example.replace(f"from {rgb.__name__} import", f"from {decoding.stem} import")
    (folder / name).write_text(example, encoding="utf-8")
    shutil.copyfile(decoding, folder / decoding.name)
