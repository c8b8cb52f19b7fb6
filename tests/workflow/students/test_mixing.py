"""How many images a search scores its candidates on."""

from __future__ import annotations

import pytest

from moonshine.config.networks import Mixed
from moonshine_workflow.students.mixing import scored_on


@pytest.mark.parametrize(
    ("shape", "images"),
    [((3, 32, 32), 64), ((3, 64, 64), 64), ((3, 224, 224), 40), ((3, 512, 1024), 3), ((3, 2048, 4096), 2)],
)
def test_the_default_is_for_small_images(shape: tuple[int, int, int], images: int) -> None:
    assert scored_on(Mixed(budget="1MB"), shape) == images


def test_what_is_asked_for_is_kept() -> None:
    assert scored_on(Mixed(budget="1MB", batch_size=64), (3, 512, 1024)) == 64
