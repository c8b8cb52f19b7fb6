"""Library files that nodes depend on: a clone's own or, where the package is installed, a copy of them in the project.

Both engines compare files by paths inside a project, the same on every machine. So a project that is no clone has a
copy of the installed library, laid out as a clone is, in which an upgrade is a change; nothing runs from it.
"""

from __future__ import annotations

import os
from pathlib import Path

import moonshine
from moonshine.errors import MoonshineError
from moonshine.files import sha256, write_bytes

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = PACKAGE / "project"
"""Files that projects need and that are no code of the package: rules, the graph for DVC, profiles, studies ..."""
IN_CLONE = Path("workflow", "moonshine_workflow")
"""Where a clone has the package."""
COPY = Path(".moonshine", "library")
PUBLISHED_ERRORS = Path("studies", "published")
MANIFESTS = Path(".snakemake", "moonshine-library")
_MANIFEST = ".sha256"
_PARTS = {
    Path("moonshine"): Path(moonshine.__file__).parent,
    IN_CLONE: PACKAGE,
    Path("notebooks"): INSTALLED / "notebooks",
    PUBLISHED_ERRORS: INSTALLED / PUBLISHED_ERRORS,
}


def library_root() -> Path:
    """Return the folder, laid out as a clone, whose library files the graph of the working folder names."""
    return Path() if IN_CLONE.is_dir() else COPY


def published_file(path: str) -> Path:
    """Return where the CSV that ``report.published`` names lies: among the library's, or wherever the user's is.

    A project's is the installed one: commands that need no engine make no copy of the library.
    """
    own = Path(path).expanduser()
    return INSTALLED / own if own.parent == PUBLISHED_ERRORS and not IN_CLONE.is_dir() else own


def library_inputs(*paths: str, write: bool) -> list[str]:
    """Return Snakemake's inputs for library files named as in a clone: a file itself, a manifest for a folder.

    Snakemake asks for the date and size of every input of every job that is ready, and does not look into folders. A
    manifest lists the checksums of all files below its folder, new ones included, in the form of ``sha256sum``, and
    has the date of the newest.

    Args:
        paths: files and folders.
        write: bring the manifests up to date. Left to the process that plans: a job of a cluster, which reads the
            rules too, must not change what others are recorded with.
    """
    found = []
    for path in map(Path, paths):
        target = library_root() / path
        if not path.suffix:
            target = MANIFESTS / f"{path}{_MANIFEST}"
            if write:
                _write_manifest(target, library_root() / path)
        found.append(target.as_posix())
    return found


def library_path(path: str) -> str:
    """Return the folder that a manifest stands for, as DVC names it; any other path is returned as it is."""
    if Path(path).is_relative_to(MANIFESTS):
        return (library_root() / Path(path).relative_to(MANIFESTS)).as_posix().removesuffix(_MANIFEST)
    return path


def refresh_library() -> None:
    """Bring a project's copy up to date; what is equal keeps its date, which Snakemake looks at first."""
    if IN_CLONE.is_dir():
        return
    wanted = {
        COPY / part / path.relative_to(source): path
        for part, source in _PARTS.items()
        for path in _below(source)
        if source != PACKAGE or INSTALLED not in path.parents
    }
    for target, path in wanted.items():
        content = path.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")  # a reader sees the old file or the new one
            part.write_bytes(content)
            os.replace(part, target)
    for target in _below(COPY):
        if target not in wanted:
            target.unlink()


def check_module_names() -> None:
    """MoonshineError for a module beside params.yaml with the name of one of the library's, which it would hide."""
    for name in () if IN_CLONE.is_dir() else (moonshine.__name__, PACKAGE.name):
        for path in (Path(f"{name}.py"), Path(name, "__init__.py")):
            if path.exists():
                raise MoonshineError(
                    f"{path}: hides the library's own {name} from all that runs here; allowed: any other name"
                )


def _write_manifest(target: Path, folder: Path) -> None:
    files = sorted(_below(folder))
    listed = "".join(f"{sha256(path)}  {path.as_posix()}\n" for path in files).encode()
    if not target.exists() or target.read_bytes() != listed:
        write_bytes(target, listed)
        # that of its newest file: results that no engine has a record of are judged by dates alone
        date = max((path.stat().st_mtime for path in files), default=0)
        os.utime(target, (date, date))


def _below(folder: Path) -> list[Path]:
    """Return all files below a folder but bytecode, as DVC sees them."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
