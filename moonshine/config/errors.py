"""Validation errors of a study in terms of ``params.yaml``: the key, the value found, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

MAX_SHOWN = 70


def describe(
    item: dict[str, Any], content: Any, schema: type[BaseModel], tagged: Mapping[str, type[BaseModel]]
) -> str:
    """One of pydantic's errors as 'key: found what; what is allowed'.

    ``content`` is what was validated against ``schema``; ``tagged`` maps the tags of discriminated unions to
    their members.
    """
    keys, fields = _visible_path(item["loc"], content, schema, tagged)
    name = ".".join(map(shorten, keys)) or "the study"
    kind, context, found = item["type"], item.get("ctx", {}), item["input"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(keys[-1], fields, 1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        return f"{name}: unknown key{hint}; allowed here: {', '.join(fields)}"
    if kind == "missing":
        return f"{name}: missing; it has no default"
    if kind == "value_error":
        return f"{name}: {context['error']}" if keys else str(context["error"])
    if item["loc"] and item["loc"][-1] == "[key]":
        return (
            f"{name}: the key '{shorten(str(found))}' may hold only letters, digits, '_', '+' and, but for the start, "
            "'-' (DVC splits on dots), 64 at most"
        )
    if kind == "union_tag_invalid":
        # a field's name in quotes, or a function's with brackets
        found = found.get(str(context["discriminator"]).strip("'").removesuffix("()"))
        return f"{name}: found {shorten(repr(found))}; expected one of {context['expected_tags']}"
    message = item["msg"][0].lower() + item["msg"][1:]
    if kind == "float_type" and isinstance(found, str) and _is_number(found):
        message += f" (YAML reads {found} as text: write {float(found)!r})"
    shown = (
        type(found).__name__
        if isinstance(found, dict | list) and len(str(found)) > 60
        else shorten(repr(found))
    )
    return f"{name}: found {shown}; {message}"


def shorten(text: str) -> str:
    """Text of the user's for one line of a message."""
    text = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return text.encode(errors="backslashreplace").decode()


def _visible_path(
    loc: tuple[Any, ...], content: Any, schema: type[BaseModel], tagged: Mapping[str, type[BaseModel]]
) -> tuple[list[str], list[str]]:
    """The keys of an error as the user wrote them (pydantic adds tags), and those allowed beside the last."""
    keys: list[str] = []
    model: Any = schema
    here: Any = content
    for position, part in enumerate(loc):
        if part == "[key]":
            continue
        if isinstance(here, dict) and (part in here or (position == len(loc) - 1 and part not in tagged)):
            keys.append(str(part))
            parent, here = model, here.get(part)
            model = _inside(model, str(part))
        elif isinstance(here, list) and isinstance(part, int):
            keys.append(str(part))
            parent, here = model, here[part]
        elif part in tagged:
            model = tagged[str(part)]
            parent = model
    return keys, list(getattr(parent if loc else schema, "model_fields", {}))


def _inside(model: Any, key: str) -> Any:
    """The section that ``key`` of a section or of a mapping of sections leads to, or None."""
    if get_origin(model) is dict:
        return get_args(model)[1]
    annotation = getattr(model, "model_fields", {}).get(key)
    annotation = getattr(annotation, "annotation", None)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    members = [
        member
        for member in get_args(annotation)
        if isinstance(member, type) and issubclass(member, BaseModel)
    ]
    if get_origin(annotation) is not dict and members:
        return members[0]
    return annotation


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
