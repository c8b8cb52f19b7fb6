"""Strict, bounded reading of ``params.yaml``: nothing is dropped silently, no file exhausts time or memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from moonshine.errors import MoonshineError, shorten

MAX_VALUES = 100_000
MAX_DEPTH = 50
MAX_BITS = 1000


class _Loader(yaml.SafeLoader):
    """Loader that reports scalars it cannot convert, for which PyYAML lets Python's exceptions through."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > MAX_BITS:
                raise OverflowError
        except (ArithmeticError, AttributeError, LookupError, ValueError):
            raise MoonshineError(
                f"{_line(node)}: found {shorten(str(node.value))}, which cannot be read as "
                f"{node.tag.rpartition(':')[2]}; allowed: text in quotes, whole numbers of up to 300 digits"
            ) from None
        return value


def read_yaml(path: Path) -> Any:
    """Read a YAML file. Merge keys (``<<``) and aliases are allowed, up to a limit on the expanded size.

    Raises MoonshineError naming the file, the line and what is allowed.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {}, [])
        return loader.construct_document(node)
    except FileNotFoundError:
        raise MoonshineError(
            f"{path}: no such file; `moonshine init` writes one, in a clone `cp studies/digits.yaml {path}`"
        ) from None
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise MoonshineError(f"{path}: nested too deeply; allowed: {MAX_DEPTH} levels") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MoonshineError(f"{path}: not readable as YAML: {error}") from None
    except MoonshineError as error:
        raise MoonshineError(f"{path}: {error}") from None


def _check(node: yaml.Node, known: dict[int, tuple[int, int]], above: list[yaml.Node]) -> tuple[int, int]:
    """Return the number of a node's values, with aliases expanded, and its depth.

    Raises MoonshineError if either is too large, and for a duplicate key, of which PyYAML silently keeps the last.
    """
    if id(node) in known:
        return known[id(node)]
    if node in above:
        raise MoonshineError(
            f"{_line(node)}: a value that contains itself; allowed: aliases of earlier values"
        )
    inner = [*above, node]
    parts = list(node.value) if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        parts = [value for _, value in node.value]
    below = [_check(part, known, inner) for part in parts]
    values, depth = 1 + sum(size for size, _ in below), 1 + max((depth for _, depth in below), default=0)
    if values > MAX_VALUES or depth > MAX_DEPTH:
        raise MoonshineError(
            f"{_line(node)}: found {values:,} values, {depth} levels deep; allowed: {MAX_VALUES:,} and {MAX_DEPTH}, "
            "aliases written out"
        )
    known[id(node)] = values, depth
    return values, depth


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise MoonshineError(f"{_line(key)}: found a {key.id} as a key; allowed: text")
        if key.value in seen:
            raise MoonshineError(f"{_line(key)}: the key '{shorten(key.value)}' is given twice")
        seen.add(key.value)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
