"""Small files: written atomically and deterministically; reading errors name the file."""

from __future__ import annotations

import csv
import fcntl
import glob
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from moonshine.errors import MoonshineError

DRAFT_LOCK = "lock"


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/moonshine`` or ``~/.cache/moonshine``; deleting it costs only time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "moonshine"


@contextmanager
def draft(target: Path) -> Iterator[Path]:
    """Yield a folder beside ``target`` to write it in; it is removed when the context ends. Errors: OSError.

    The next draft of the same target removes what a killed process left, on whatever machine: a lock ends with its
    process, also on a shared file system. On a file system without locks, what was left stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.part*"):
        _remove_dead(left)
    folder, lock = _begin(target)
    try:
        with lock:
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _begin(target: Path) -> tuple[Path, IO[bytes]]:
    while True:
        folder = Path(tempfile.mkdtemp(".part", f".{target.name}.", target.parent))
        with suppress(FileNotFoundError):  # another process has just taken it for a dead one's
            lock = (folder / DRAFT_LOCK).open("wb")
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / DRAFT_LOCK).exists():
                return folder, lock
            lock.close()


def _remove_dead(left: Path) -> None:
    """Remove a draft whose process has ended, or a file from when drafts were files."""
    try:
        if not left.is_dir():
            return left.unlink()
        with (left / DRAFT_LOCK).open("rb+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    except FileNotFoundError:  # its process died before the lock, or all but the folder is gone
        with suppress(OSError):
            left.rmdir()
    except OSError:
        pass


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` in one step: a reader sees the old file or the new one, never a part of it."""
    try:
        with draft(path) as folder:
            part = folder / path.name
            part.write_bytes(content)
            os.replace(part, path)
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be written ({error.strerror or error})") from None


def write_json(path: Path, content: Mapping[str, Any], *, sort_keys: bool = True) -> None:
    """Write `json_bytes`."""
    write_bytes(path, json_bytes(content, sort_keys=sort_keys))


def json_bytes(content: Mapping[str, Any], *, sort_keys: bool = True) -> bytes:
    """Return JSON with a final newline; with sorted keys equal content is equal bytes."""
    return (json.dumps(content, indent=1, sort_keys=sort_keys, allow_nan=False) + "\n").encode()


class JsonObject(dict[str, Any]):
    """An object of a JSON file; asking for a key that it lacks is an error that names the file."""

    path: Path

    def __missing__(self, key: str) -> NoReturn:
        raise MissingKey(f"{self.path}: damaged, or of another version: it has no {key!r}")


class MissingKey(MoonshineError, KeyError):
    """A file lacks a key that it should have."""

    __str__ = MoonshineError.__str__  # KeyError's quotes the message


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; MoonshineError names the file if it is missing or damaged, or lacks a key asked for."""
    content = _json(path)
    if not isinstance(content, dict):
        raise MoonshineError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Return a JSON list of objects, with the errors of `read_json`."""
    content = _json(path)
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise MoonshineError(f"{path}: damaged, expected a JSON list of objects")
    return content


def _json(path: Path) -> Any:
    def content_of(pairs: dict[str, Any]) -> JsonObject:
        found = JsonObject(pairs)
        found.path = path
        return found

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_hook=content_of)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, RecursionError) as error:  # of JSON, UTF-8, and numbers or nesting without end
        raise MoonshineError(f"{path}: damaged, not readable as JSON ({error})") from None


@contextmanager
def interpreted(path: Path) -> Iterator[None]:
    """Name a file in every error that its content causes in the context: damage leaves values of any kind."""
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
    """Return the error for a file that cannot be opened."""
    if isinstance(error, FileNotFoundError):
        return MoonshineError(f"{path}: no such file")
    return MoonshineError(f"{path}: cannot be read ({error.strerror or error})")


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write rows as CSV: floats with 7 significant digits, None as an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {key: f"{value:.7g}" if isinstance(value, float) else value for key, value in row.items()}
        )
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path, columns: Iterable[str] = ()) -> list[dict[str, str]]:
    """Return the rows of a CSV file as text, without its comment lines (``#``).

    MoonshineError naming the path if it is missing or damaged, or lacks one of ``columns``.
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
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
