"""Small files: written atomically and deterministically, read with an error that names them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` in one step: a reader sees the old file or the new one, never half of one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(content)
            os.replace(part, path)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be written ({error.strerror or error})") from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Sorted keys and a final newline, so that equal content is equal bytes."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ``MoonshineError`` names the file when it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:  # of JSON, UTF-8, and numbers and nesting without end
        raise MoonshineError(f"{path}: damaged, not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise MoonshineError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def unreadable(path: Path, error: OSError) -> MoonshineError:
    """What to say where the system does not give a file."""
    if isinstance(error, FileNotFoundError):
        return MoonshineError(f"{path}: no such file")
    return MoonshineError(f"{path}: cannot be read ({error.strerror or error})")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Floats with 7 significant digits; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.7g}" if isinstance(value, float) else value for key, value in row.items()}
        )
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file as text, its comment lines (``#``) left out.

    Errors: ``MoonshineError`` naming the path when it is missing or damaged.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return list(csv.DictReader(line for line in lines if not line.startswith("#")))
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise MoonshineError(f"{path}: damaged, not readable as CSV ({error})") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
