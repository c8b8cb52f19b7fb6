"""The kinds of dataset, and how each is prepared, once."""

from moonshine.datasets.preparation import prepare

__all__ = ["prepare"]
