"""Validation errors of a study in terms of ``params.yaml``: the key, the value found and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from moonshine.errors import shorten

_NO_DEFAULT = (
    "no default; docs/params-annotated.yaml has every key, and `moonshine init` writes a whole study"
)


def explain_all(items: Iterable[dict[str, Any]], content: Any, schema: type[BaseModel]) -> list[str]:
    """Return pydantic's errors as `explain` says them, with all missing keys in the first line."""
    missing, others = [], []
    for item in items:
        if item["type"] == "missing":
            missing.append(_name(_visible_path(item["loc"], content, schema)[0]))
        else:
            others.append(explain(item, content, schema))
    said = [f"{', '.join(missing)}: missing; {_NO_DEFAULT}"] if missing else []
    return said + others


def explain(item: dict[str, Any], content: Any, schema: type[BaseModel]) -> str:
    """Return one of pydantic's errors as 'key: found what; what is allowed'.

    ``content`` is what was validated against ``schema``.
    """
    keys, fields = _visible_path(item["loc"], content, schema)
    name = _name(keys)
    kind, context, found = item["type"], item.get("ctx", {}), item["input"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(keys[-1], fields, 1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        return f"{name}: unknown key{hint}; allowed here: {', '.join(fields)}"
    if kind == "value_error":
        return f"{name}: {context['error']}" if keys else str(context["error"])
    if item["loc"] and item["loc"][-1] == "[key]":
        return (
            f"{name}: the key '{shorten(str(found))}' may hold only letters, digits, '_', '+' and, but for the start, "
            "'-' (DVC splits on dots), 64 at most"
        )
    if kind == "union_tag_invalid":
        # a field's name in quotes, or a function's with brackets
        key = str(context["discriminator"]).strip("'").removesuffix("()")
        return (
            f"{name}.{key}: found {shorten(repr(found.get(key)))}; expected one of {context['expected_tags']}"
        )
    message = item["msg"][0].lower() + item["msg"][1:]
    if kind == "float_type" and isinstance(found, str) and _is_number(found):
        message += f" (YAML reads {found} as text: write {float(found)!r})"
    shown = (
        type(found).__name__
        if isinstance(found, dict | list) and len(str(found)) > 60
        else shorten(repr(found))
    )
    return f"{name}: found {shown}; {message}"


def _name(keys: list[str]) -> str:
    return ".".join(map(shorten, keys)) or "the study"


def _visible_path(loc: tuple[Any, ...], content: Any, schema: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Return the keys of an error as the user wrote them, and the keys allowed at the level of the last.

    pydantic's path also contains the tag of each discriminated union on the way.
    """
    keys: list[str] = []
    sections: list[Any] = [schema]  # what `here` may be: several where a union's tag has not been read yet
    here = content
    allowed: list[str] = list(schema.model_fields)
    for position, part in enumerate(loc):
        if part == "[key]":
            continue
        if tagged := [section for section in sections if len(sections) > 1 and _has_tag(section, part)]:
            sections = tagged
            allowed = list(tagged[0].model_fields)
        elif isinstance(here, dict) and (part in here or position == len(loc) - 1):
            keys.append(str(part))
            allowed = list(getattr(sections[0], "model_fields", {})) if sections else []
            here, sections = here.get(part), _inside(sections, str(part))
        elif isinstance(here, list) and isinstance(part, int):
            keys.append(str(part))
            here = here[part]
    return keys, allowed


def _has_tag(section: Any, tag: Any) -> bool:
    """Return whether ``tag`` is the literal that distinguishes the section from the other members of a union."""
    fields = getattr(section, "model_fields", {}).values()
    return any(get_origin(each.annotation) is Literal and tag in get_args(each.annotation) for each in fields)


def _inside(sections: list[Any], key: str) -> list[Any]:
    """Return the sections that a key leads to, all members in the case of a union."""
    section = sections[0] if sections else None
    if get_origin(section) is dict:
        return [get_args(section)[1]]
    field = getattr(section, "model_fields", {}).get(key)
    return _members(field.annotation) if field else []


def _members(annotation: Any) -> list[Any]:
    """Return the sections, and mappings of sections, that an annotation allows."""
    if get_origin(annotation) is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return [annotation]
    return [member for each in get_args(annotation) for member in _members(each)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
