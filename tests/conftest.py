"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline's tests take longest: they start first, so that no process waits for another at the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
