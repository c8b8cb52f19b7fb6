"""The order of the tests, that they are the same every time, and that less time goes into looking for garbage."""

import gc

import hypothesis
import pytest

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")

# Exporting makes millions of objects that stay; Python's own number has it look through all of them every so often.
gc.set_threshold(100_000, 20, 20)

# Each takes longer than any other file, or makes what others wait for.
FIRST = ("test_tutorial.py", "test_locks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline's tests take longest: they start first, so that no process waits for another at the end."""
    items.sort(key=lambda item: (item.path.name not in FIRST, "workflow" not in item.path.parts))
