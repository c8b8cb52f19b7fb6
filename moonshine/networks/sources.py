"""The user's own code that builds a model: its modules and their checksums, found by parsing, not by importing.

Without torch, so that an engine knows of a change before anything starts.
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
"""Packages of which the nodes of a study list the files themselves."""
COMPUTED = ("import_module", "__import__", "iter_modules", "walk_packages")
"""Functions that import, or find, modules by names that are text."""

ADDED: set[str] = set()
"""What importing the user's code has put on the Python path: it was not there before, and is not searched after."""


def sources(name: str) -> dict[str, str]:
    """SHA-256 of each of the user's modules that building ``name`` (``my_pkg.nets:build``) runs, by the module's name.

    These are the builder's own and all that it imports, from there on, wherever the import stands: packages on the way,
    modules beside it, what is installed in editable form; not the standard library, nor installed packages. Where the
    name of an import is computed, every module of the importing package counts. Empty for a registered model and for a
    built-in network. MoonshineError where the builder's module is not found.
    """
    if "/" in name or ":" not in name:
        return {}
    importlib.invalidate_caches()
    start, search = name.partition(":")[0], _Search()
    if search.file(start) is None:
        raise MoonshineError(f"model {name}: no module {start} is found from {Path.cwd()}")
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
    """Whether a package or module is on the Python path, the folder where the command is given included."""
    return _Search().spec(package) is not None


def check_sources(name: str, recorded: Any) -> None:
    """MoonshineError, naming the first file that differs and both checksums, unless `sources` are as recorded."""
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
                f"model {name}: its code has changed since the structure was written: {path} has the checksum {here}, "
                f"then it was {then} (None: no part of it); allowed: the code of then, or what the code of now gives "
                "(run the study again, with snakemake or dvc repro)"
            )


class _Search:
    """Where modules are, as `importlib.util.find_spec` says, but without importing the packages around them."""

    def __init__(self) -> None:
        self._specs: dict[str, ModuleSpec | None] = {}

    def file(self, module: str) -> Path | None:
        """The file of a module that is part of neither Python nor `_OWN_PACKAGES`; None if there is no such module."""
        if module.partition(".")[0] in _OWN_PACKAGES:
            return None
        spec = self.spec(module)
        return Path(spec.origin) if spec and spec.has_location and spec.origin else None

    def imported(self, module: str, path: Path) -> Iterator[str]:
        """The names of what a module may import, of the packages around, and of what is in a module but is none."""
        spec = self.spec(module)
        package = module if spec and spec.submodule_search_locations else module.rpartition(".")[0]
        state = path.stat()
        for name, with_all_below in _imports(path, package, state.st_mtime_ns, state.st_size):
            top = name.partition(".")[0]
            if self.spec(top) is None:  # the module will put its folder on the path, if this works at all
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
            else:  # a console script does not look where it is started: see `moonshine.networks.models`
                places = [str(Path.cwd()), *(each for each in sys.path if each not in ADDED)]
            self._specs[module] = _find(module, places) if places else None
        return self._specs[module]


def _find(module: str, places: list[str]) -> ModuleSpec | None:
    specs = (finder.find_spec(module, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec for spec in specs if spec), None)


@cache
def _imports(path: Path, package: str, mtime_ns: int, size: int) -> tuple[tuple[str, bool], ...]:
    """What the text of a module imports, by absolute names; True where all that lies below may be meant.

    The time and the size tell that a file has changed.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # compiled, or broken, of which importing it tells
        return ()
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, False) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute("." * node.level + (node.module or ""), package)
            # what __all__ names may be modules
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
    """The packages that a module lies in, which are imported before it."""
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _is_installed(path: Path) -> bool:
    return any(path.resolve().is_relative_to(root) for root in _environment())


@cache
def _environment() -> tuple[Path, ...]:
    """The folders of the standard library and of installed packages."""
    named = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders = {*named, *site.getsitepackages(), site.getusersitepackages()}
    return tuple(Path(folder).resolve() for folder in folders)
