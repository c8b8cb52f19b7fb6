"""The exception for mistakes of the user, whose message is meant to be read."""

from collections.abc import Sequence

MAX_SHOWN = 70
"""Characters of the user's text in a message."""


class MoonshineError(ValueError):
    """A mistake in the input: the message names the key or path, the value found and what is allowed."""


def shorten(text: str) -> str:
    """Return the user's text as one short line of a message shows it."""
    text = text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
    return text.encode(errors="backslashreplace").decode()


def first_few(names: Sequence[str]) -> str:
    """Return the names, or the first ten and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return str(error).strip().partition("\n")[0].rstrip() or type(error).__name__


def cannot_take(input_shape: Sequence[int], error: Exception) -> MoonshineError:
    """The error for an input that a network's forward pass refuses, with the reason it gave."""
    size = "x".join(map(str, input_shape))
    return MoonshineError(f"the network cannot take an input of {size}: {first_line(error)}")
