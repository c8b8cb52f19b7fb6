"""The order of the tests, how many examples properties are tried on, and how often Python looks for garbage."""

import gc
import os

import hypothesis
import pytest

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
# Made by the first process that needs it, while others that do wait.
SHARED = "run_by_snakemake"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest tests first, and those that need the study that both engines ran when it has been run."""
    waiting = {item.path for item in items if SHARED in getattr(item, "fixturenames", ())}

    def order(item: pytest.Item) -> tuple[bool, bool, bool]:
        return item.path.name not in FIRST, "workflow" not in item.path.parts, item.path in waiting

    items.sort(key=order)
