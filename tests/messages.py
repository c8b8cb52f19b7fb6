"""What a message must name, whatever its words: the key or path, the value found, what is allowed instead."""

from __future__ import annotations

import re


def naming(*facts: object) -> str:
    """Return a pattern, for ``match`` of `pytest.raises`, of a text that holds all ``facts`` whole, in any order."""
    return "(?s)" + "".join(f"(?=.*{_whole(str(fact))})" for fact in facts)


def names(text: str, *facts: object) -> bool:
    """Whether a text has all ``facts`` in it."""
    return re.match(naming(*facts), text) is not None


def _whole(fact: str) -> str:
    """A pattern for a fact that is no part of a longer word or number."""
    before = r"(?<!\w)" if fact[:1].isalnum() else ""
    after = r"(?!\w)" if fact[-1:].isalnum() else ""
    return f"{before}{re.escape(fact)}{after}"
