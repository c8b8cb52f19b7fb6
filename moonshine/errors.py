"""The exception for mistakes of the user, whose message is meant to be read."""

from collections.abc import Iterable, Sequence

MAX_SHOWN = 70
"""Characters of the user's text in a message."""


class MoonshineError(ValueError):
    """A mistake in the input: the message names the key or path, the value found and what is allowed."""


def shorten(text: str) -> str:
    """Return the user's text as one short line of a message shows it."""
    text = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return text.encode(errors="backslashreplace").decode()


def first_few(names: Iterable[object], most: int = 10, separator: str = ", ") -> str:
    """Return the names as one text; of more than ``most``, the first ones and how many more there are."""
    listed = list(map(str, names))
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return separator.join(listed[:most]) + more


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return str(error).strip().partition("\n")[0].rstrip() or type(error).__name__


def cannot_take(input_shape: Sequence[int], error: Exception) -> MoonshineError:
    """The error for an input that a network's forward pass refuses, with the reason it gave."""
    size = "x".join(map(str, input_shape))
    return MoonshineError(f"the network cannot take an input of {size}: {first_line(error)}")
