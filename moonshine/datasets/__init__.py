"""Where images come from: every kind of dataset, and its preparation, which happens once."""

from moonshine.datasets.preparation import prepare

__all__ = ["prepare"]
