"""The order of the tests, how many examples properties are tried on, and what is kept instead of being made anew."""

import gc
import os

import hypothesis
import pytest

from tests.workflow.quick_python import share_operators

# Properties are checked on a few examples, always the same; `make explore` looks for others.
hypothesis.settings.register_profile("same", max_examples=30, derandomize=True, deadline=None)
hypothesis.settings.register_profile(
    "explore",
    max_examples=1000,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
)
hypothesis.settings.load_profile("same")

# Exporting makes millions of objects that stay; Python's own number has it look through all of them every so often.
gc.set_threshold(100_000, 20, 20)

# The converter of .tflite files takes half a minute of CPU for each: it is used only where it is named for the tests.
os.environ.setdefault("MOONSHINE_TFLITE", "/no/converter")

# Each takes longer than any other file, or makes what others wait for.
FIRST = ("test_tutorial.py", "test_locks.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline's tests take longest: they start first, so that no process waits for another at the end."""
    items.sort(key=lambda item: (item.path.name not in FIRST, "workflow" not in item.path.parts))


@pytest.fixture(scope="session", autouse=True)
def one_table_of_operators() -> None:
    share_operators()
