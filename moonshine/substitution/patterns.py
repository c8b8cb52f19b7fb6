"""Patterns of module paths, and a mapping from them to the places of a network. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from moonshine.errors import MoonshineError, first_few

Chosen = TypeVar("Chosen")
SHOWN = 24
"""Places that an error lists: the 18 of a WRN-40, and most other networks'."""


def covers(pattern: str, path: str) -> bool:
    """Whether a pattern such as ``layer1.*`` matches a path or one of its parents; ``*`` crosses dots."""
    parts = path.split(".")
    return any(fnmatchcase(".".join(parts[: end + 1]), pattern) for end in range(len(parts)))


def spread(chosen: Mapping[str, Chosen], places: Sequence[str], network: str) -> dict[str, Chosen]:
    """Return place -> what was chosen for the first pattern that covers it, in the order of ``places``.

    MoonshineError for a pattern that covers no place, or (but for ``*``, the rest) only those of earlier patterns, and
    for a place that none covers; it lists the places of the ``network``.
    """
    if chosen.keys() == set(places):  # as in a structure, read for every network that a search builds
        return {place: chosen[place] for place in places}
    first = {place: next((each for each in chosen if covers(each, place)), None) for place in places}
    listed = first_few(places, SHOWN)
    for pattern in chosen:
        matched = [place for place in places if covers(pattern, place)]
        if not matched:
            raise MoonshineError(f"{pattern!r} matches no place of {network}; allowed: {listed}")
        if pattern not in (*first.values(), "*"):
            taken = first_few(dict.fromkeys(repr(first[place]) for place in matched))
            raise MoonshineError(
                f"{pattern!r} matches only {first_few(matched, 5)}, which {taken} takes first; allowed: the first "
                "pattern that matches counts, so '*' comes last"
            )
    if missing := [place for place, pattern in first.items() if pattern is None]:
        raise MoonshineError(
            f"no block is given for {first_few(missing, SHOWN)} of {network}; allowed: a pattern for every place of "
            f"{listed}, such as '*' at the end"
        )
    return {place: chosen[pattern] for place, pattern in first.items() if pattern is not None}
