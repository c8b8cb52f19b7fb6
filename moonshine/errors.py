"""The one exception a user is meant to read."""


class MoonshineError(ValueError):
    """A mistake in the input: the message names the key or path, the value found and what is allowed."""
