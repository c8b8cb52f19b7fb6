"""The one exception a user is meant to read."""

from collections.abc import Sequence


class MoonshineError(ValueError):
    """A mistake in the input: the message names the key or path, the value found and what is allowed."""


def cannot_take(input_shape: Sequence[int], error: Exception) -> MoonshineError:
    """The error for an input that a network's forward pass refuses, with the reason it gave."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    return MoonshineError(f"the network cannot take an input of {'x'.join(map(str, input_shape))}: {reason}")
