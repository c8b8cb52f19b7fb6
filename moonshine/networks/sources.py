"""Modules and checksums of the user's own code that builds a model, found by parsing, not by importing.

Needs no torch, so that an engine detects a change before anything starts.
"""

from __future__ import annotations

import ast
import importlib
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from moonshine.errors import MoonshineError
from moonshine.files import sha256

_OWN_PACKAGES = ("moonshine", "moonshine_workflow")
"""Packages whose files the nodes of a study declare themselves."""
COMPUTED = ("import_module", "__import__", "iter_modules", "walk_packages")
"""Functions that import or find modules by name at run time."""

ADDED: set[str] = set()
"""Entries that importing the user's code added to the Python path; they are not searched."""


def sources(name: str) -> dict[str, str]:
    """Return module -> SHA-256 of the user's modules that building ``name`` (``my_pkg.nets:build``) runs.

    These are the builder's module and all that it imports, directly or not, wherever the import stands: parent
    packages, neighbouring modules, editable installs; not the standard library or installed packages. If the name of
    an import is computed, every module of the importing package counts. Empty for a registered model and for a built-in
    network. MoonshineError if the builder's module is not found.
    """
    if "/" in name or ":" not in name:
        return {}
    importlib.invalidate_caches()
    start, search = name.partition(":")[0], _Search()
    if search.file(start) is None:
        raise MoonshineError(f"model {name}: module {start} is not found from {Path.cwd()}")
    found: dict[str, str] = {}
    waiting, seen = [start], set[str]()
    while waiting:
        module = waiting.pop()
        path = None if module in seen else search.file(module)
        seen.add(module)
        if path and (module == start or not _is_installed(path)):
            found[module] = sha256(path)
            waiting += search.imported(module, path)
    return dict(sorted(found.items()))


def is_importable(package: str) -> bool:
    """Whether a package or module is on the Python path or in the working folder."""
    return _Search().spec(package) is not None


def check_sources(name: str, recorded: Any) -> None:
    """MoonshineError naming the first file that differs, and both checksums, unless `sources` are as recorded."""
    if not isinstance(recorded, Mapping):
        raise MoonshineError(
            f"model {name}: source_sha256 is {recorded!r}; allowed: the checksum of each module"
        )
    now = sources(name)
    for module in sorted({*now, *recorded}):
        here, then = now.get(module), recorded.get(module)
        if here != then:
            path = _Search().file(module) or module
            raise MoonshineError(
                f"model {name}: its code has changed since the structure was written: {path} has the checksum {here}; "
                f"it was {then} (None: not used); allowed: the earlier code, or results of the present one (run the "
                "study again, with snakemake or dvc repro)"
            )


class _Search:
    """Finds modules like `importlib.util.find_spec`, but without importing their parent packages."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def file(self, module: str) -> Path | None:
        """Return the file of a module; None for one of Python's or of `_OWN_PACKAGES`, and if there is none."""
        if module.partition(".")[0] in _OWN_PACKAGES:
            return None
        spec = self.spec(module)
        return Path(spec.origin) if spec and spec.has_location and spec.origin else None

    def imported(self, module: str, path: Path) -> Iterator[str]:
        """Yield the names of all that a module may import, with parent packages; some are attributes, not modules."""
        spec = self.spec(module)
        package = module if spec and spec.submodule_search_locations else module.rpartition(".")[0]
        state = path.stat()
        for name, with_all_below in _imports(path, package, state.st_mtime_ns, state.st_size):
            top = name.partition(".")[0]
            if self.spec(top) is None:  # found only if the module adds its own folder to the path
                self._specs[top] = _find(top, [str(path.parent)])
            yield from _around(name)
            yield name
            if with_all_below:
                yield from self._below(name)
        yield from _around(module)

    def _below(self, package: str) -> Iterator[str]:
        spec = self.spec(package)
        for location in map(Path, (spec and spec.submodule_search_locations) or ()):
            if not _is_installed(location):
                for path in location.rglob("*.py"):
                    parts = path.relative_to(location).with_suffix("").parts
                    yield ".".join((package, *(part for part in parts if part != "__init__")))

    def spec(self, module: str) -> ModuleSpec | None:
        if module not in self._specs:
            parent = module.rpartition(".")[0]
            if parent:
                around = self.spec(parent)
                places = list(around.submodule_search_locations or ()) if around else []
            else:  # a console script does not have the working folder on its path: see `moonshine.networks.models`
                places = [str(Path.cwd()), *(each for each in sys.path if each not in ADDED)]
            self._specs[module] = _find(module, places) if places else None
        return self._specs[module]


def _find(module: str, places: list[str]) -> ModuleSpec | None:
    specs = (finder.find_spec(module, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in specs if spec), None)


@cache
def _imports(path: Path, package: str, mtime_ns: int, size: int) -> tuple[tuple[str, bool], ...]:
    """Return the absolute names that a module imports; True where everything below the name may be imported.

    Time and size are part of the cache's key, so that a changed file is parsed again.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # compiled, or broken, which importing it will report
        return ()
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            # __all__ may name modules
            found += [
                (base, True) if alias.name == "*" else (f"{base}.{alias.name}", False) for alias in node.names
            ]
        elif isinstance(node, ast.Call) and _called(node) in COMPUTED:
            given = node.args[0] if node.args else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                found.append((_absolute(given.value, package), False))
            else:
                found.append((package, True))
    return tuple((name, below) for name, below in found if name and name[0] != ".")


def _called(call: ast.Call) -> str:
    return str(getattr(call.func, "attr", getattr(call.func, "id", "")))


def _absolute(name: str, package: str) -> str:
    try:
        return resolve_name(name, package)
    except ImportError:  # beyond the top of its package
        return ""


def _around(module: str) -> list[str]:
    """Return the parent packages of a module, which are imported before it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _is_installed(path: Path) -> bool:
    return any(path.resolve().is_relative_to(root) for root in _environment())


@cache
def _environment() -> tuple[Path, ...]:
    """Return the folders of the standard library and of installed packages."""
    named = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = {*named, *site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(folder).resolve() for folder in folders)
