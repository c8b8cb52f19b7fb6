"""Library files that nodes depend on: a clone's own or, where the package is installed, a copy of them in the project.

Both engines compare files by paths inside a project, the same on every machine. So a project that is no clone has a
copy of the installed library, laid out as a clone is, in which an upgrade is a change; nothing runs from it.
"""

from __future__ import annotations

import os
from pathlib import Path

import moonshine
from moonshine.errors import MoonshineError

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = PACKAGE / "project"
"""Files that projects need and that are no code of the package: rules, the graph for DVC, profiles, studies ..."""
IN_CLONE = Path("workflow", "moonshine_workflow")
"""Where a clone has the package."""
COPY = Path(".moonshine", "library")
_PARTS = {
    Path("moonshine"): Path(moonshine.__file__).parent,
    IN_CLONE: PACKAGE,
    Path("notebooks"): INSTALLED / "notebooks",
    Path("studies", "published"): INSTALLED / "studies" / "published",
}


def library_root() -> Path:
    """Return the folder, laid out as a clone, whose library files the graph of the working folder names."""
    return Path() if IN_CLONE.is_dir() else COPY


def library_files(*paths: str) -> list[str]:
    """Return library files by their paths in a clone; a folder stands for all below it, new ones included."""
    found: list[Path] = []
    for path in (library_root() / each for each in paths):
        found += [path] if path.suffix else sorted(_below(path))
    return [path.as_posix() for path in found]


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


def _below(folder: Path) -> list[Path]:
    """Return all files below a folder but bytecode, as DVC sees them."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
