"""Small files: written atomically and deterministically, read with an error that names them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

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


class Content(dict[str, Any]):
    """An object of a JSON file: a key that it lacks is an error that names the file."""

    path: Path

    def __missing__(self, key: str) -> NoReturn:
        raise MissingKey(f"{self.path}: damaged, or of another version: it has no {key!r}")


class MissingKey(MoonshineError, KeyError):
    """A file lacks what it should hold."""

    __str__ = MoonshineError.__str__  # KeyError's is that of a key


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ``MoonshineError`` names the file when it is missing or damaged, or lacks a key asked for."""
    content = _json(path)
    if not isinstance(content, dict):
        raise MoonshineError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects, with the errors of `read_json`."""
    content = _json(path)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise MoonshineError(f"{path}: damaged, expected a JSON list of objects")
    return content


def _json(path: Path) -> Any:
    def content_of(pairs: dict[str, Any]) -> Content:
        found = Content(pairs)
        found.path = path
        return found

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=content_of)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:  # of JSON, UTF-8, and numbers and nesting without end
        raise MoonshineError(f"{path}: damaged, not readable as JSON ({error})") from None


@contextmanager
def interpreted(path: Path) -> Iterator[None]:
    """Name the file whose content is used here in whatever that raises: damage leaves values of any kind."""
    try:
        yield
    except MoonshineError as error:
        raise (error if str(path) in str(error) else MoonshineError(f"{path}: {error}")) from None
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise MoonshineError(
            f"{path}: damaged, or of another version ({type(error).__name__}: {error})"
        ) from error


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


def read_csv(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """The rows of a CSV file as text, its comment lines (``#``) left out.

    Errors: ``MoonshineError`` naming the path when it is missing or damaged, or lacks one of ``columns``.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        reader = csv.DictReader(line for line in lines if not line.startswith("#"))
        for column in columns:
            if column not in (reader.fieldnames or ()):
                raise MoonshineError(f"{path}: the column '{column}' is missing; collect the study again")
        return list(reader)
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise MoonshineError(f"{path}: damaged, not readable as CSV ({error})") from None


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
