"""The order of the tests, and that they are the same every time."""

import hypothesis
import pytest

hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline's tests take longest: they start first, so that no process waits for another at the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
