from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moonshine.datasets.splitting import hold_out, subset
from moonshine.errors import MoonshineError
from tests.messages import naming


def labels_of(*sizes: int) -> np.ndarray:
    return np.random.RandomState(0).permutation(np.repeat(np.arange(len(sizes)), sizes))


@given(
    sizes=st.lists(st.integers(10, 60), min_size=2, max_size=6),
    share=st.floats(0.15, 0.85),
    seed=st.integers(0, 2**40),
)
@example(sizes=[10, 21, 56, 16, 25, 22], share=0.15, seed=0)  # 22.5, and a bit more by class
def test_every_image_once_and_every_class_in_proportion(sizes: list[int], share: float, seed: int) -> None:
    labels = labels_of(*sizes)
    kept, held = hold_out(labels, share, seed=seed, key="data.test")
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(held) == round(share * len(labels))
    assert list(kept) == sorted(kept)
    assert list(held) == sorted(held)
    assert np.all(np.abs(np.bincount(labels[held]) - share * np.array(sizes)) < 1)


def test_the_split_depends_on_seed_and_key_only() -> None:
    labels = labels_of(40, 40)

    def held(seed: int, key: str) -> list[int]:
        return hold_out(labels, 0.5, seed=seed, key=key)[1].tolist()

    first = held(0, "data.test")
    np.random.seed(1)
    assert held(0, "data.test") == first
    assert held(1, "data.test") != first
    assert held(0, "data.validation") != first


def test_the_split_is_frozen() -> None:
    """Stored results name their data by these indices: another numpy must draw the same."""
    _, held = hold_out(np.arange(40) % 4, 0.2, seed=0, key="data.validation")
    assert held.tolist() == [4, 7, 11, 14, 29, 30, 33, 36]


@pytest.mark.parametrize(
    ("sizes", "share", "message"),
    [
        ((100, 3), 0.1, ["data.validation", "0.1", "class 1", "3 images", "held out"]),
        ((100, 3), 0.9, ["class 1", "3 images", "left", "0.33 to 0.67"]),
        ((100, 1), 0.5, ["class 1", "1 images", "no share"]),
    ],
)
def test_a_share_that_leaves_a_class_empty(
    sizes: tuple[int, ...], share: float, message: list[object]
) -> None:
    with pytest.raises(MoonshineError, match=naming(*message)):
        hold_out(labels_of(*sizes), share, seed=0, key="data.validation")


@given(sizes=st.lists(st.integers(10, 60), min_size=2, max_size=6), most=st.integers(40, 400))
def test_a_subset_keeps_every_classs_share(sizes: list[int], most: int) -> None:
    labels = labels_of(*sizes)
    found = subset(labels, most, seed=0, split="train")
    assert list(found) == sorted(set(found))
    assert len(found) == min(most, len(labels))
    assert np.all(np.abs(np.bincount(labels[found]) - len(found) / len(labels) * np.array(sizes)) < 1)


def test_a_subset_is_frozen_and_leaves_no_class_out() -> None:
    labels = np.arange(40) % 4
    assert subset(labels, 8, seed=0, split="train").tolist() == [1, 5, 6, 8, 27, 31, 32, 34]
    assert (
        subset(labels, 8, seed=1, split="train").tolist() != subset(labels, 8, seed=0, split="test").tolist()
    )
    with pytest.raises(MoonshineError, match=naming("data.limit", 3, "40 train images", "class 3", 4)):
        subset(labels, 3, seed=0, split="train")
