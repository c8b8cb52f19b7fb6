"""The example ``classify_micro`` beside an INT8 TFLite file: the file as a C array, and programs that run it."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

from moonshine.data import rgb
from moonshine.export.receipts import Exported, TflmReceipt
from moonshine.formats.about import About
from moonshine.formats.tflite.flatbuffer import operators_of
from moonshine.formats.tflite.int8 import TFLITE_INT8, Int8File

FOLDER = "classify_micro"
_TEMPLATES = Path(__file__).with_name(FOLDER)


def write_micro_example(folder: Path, about: About, exported: Exported) -> None:
    """Write ``classify_micro`` into an export whose file ran in TensorFlow Lite Micro, of a classifier."""
    found = {each.format: each.tflm for each in exported.receipts}.get(TFLITE_INT8.name)
    if not isinstance(found, TflmReceipt) or about.is_dense:
        return
    example, path = folder / FOLDER, folder / TFLITE_INT8.file
    example.mkdir()
    decoding = Path(rgb.__file__)
    shutil.copyfile(decoding, folder / decoding.name)
    file = Int8File.open(path, 1)
    values = {
        **about.values(),
        "arena_bytes": found.arena_bytes,
        "scale": float(file.scale),
        "zero_point": int(file.zero_point),
    }
    (example / "about.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    content = path.read_bytes()
    operators = operators_of(content)
    (example / "model.h").write_text("".join(_header(content, values, len(operators))), encoding="utf-8")
    added = "\n".join(f"    resolver.Add{_camel_case(name)}();" for name in operators)
    for template in ("main.cc", "run.py", "README.md"):
        text = (_TEMPLATES / template).read_text(encoding="utf-8")
        text = text.replace("    // OPERATORS", added)
        text = text.replace(f"from {rgb.__name__} import", f"from {decoding.stem} import")
        (example / template).write_text(text, encoding="utf-8")


def _header(content: bytes, values: dict, operators: int) -> Iterator[str]:
    channels, height, width = values["input_shape"]
    names = values["class_names"]
    yield "// Written by moonshine: network-int8.tflite, and what runs it needs to know.\n#pragma once\n"
    yield "#include <cstddef>\n\n"
    whole = {
        "kHeight": height,
        "kWidth": width,
        "kChannels": channels,
        "kClasses": len(names),
        "kZeroPoint": values["zero_point"],
        "kOperators": operators,
    }
    yield from (f"constexpr int {name} = {value};\n" for name, value in whole.items())
    yield f"constexpr size_t kArenaBytes = {values['arena_bytes']};\n"
    yield f"constexpr float kScale = {values['scale']!r}f;\n"
    yield f"constexpr const char* kClassNames[] = {{{', '.join(map(json.dumps, names))}}};\n"
    yield f"alignas(16) constexpr unsigned char kModel[{len(content)}] = {{\n"
    yield textwrap.fill(", ".join(map(str, content)), 118) + "};\n"


def _camel_case(operator: str) -> str:
    """Return an operator as the resolver's methods name it: ``DEPTHWISE_CONV_2D`` -> ``DepthwiseConv2D``."""
    return "".join(word if word == "2D" else word.capitalize() for word in operator.split("_"))
