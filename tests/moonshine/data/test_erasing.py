"""Cutout and random erasing: what is erased, how much of it, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from moonshine.config.augment import Augment, Erasing
from moonshine.data.batches import batches
from moonshine.data.erasing import erase, erased_boxes
from moonshine.data.store import Split
from moonshine.errors import MoonshineError
from tests.messages import naming

PLAIN = Augment(crop_padding=1, flip=True)
CUTOUT = PLAIN.model_copy(update={"cutout": 5})
ERASING = PLAIN.model_copy(update={"erasing": Erasing(probability=0.5, scale=[0.1, 0.3], ratio=[0.5, 2.0])})


def epoch_of(augment: Augment, height: int = 10, width: int = 14, seed: int = 0) -> tuple[Tensor, Tensor]:
    images = torch.randint(100, 256, (200, 2, height, width), dtype=torch.uint8, generator=torch.Generator())
    split = Split(images, torch.arange(200))
    found = batches(
        split,
        batch_size=64,
        seed=seed,
        epoch=1,
        augment=augment,
        mean=(0.1, 0.2),
        std=(0.5, 0.5),
        device="cpu",
    )
    parts = zip(*found, strict=True)
    return torch.cat(next(parts)), torch.cat(next(parts))


def test_a_square_with_any_centre_becomes_the_mean_and_the_rest_stays() -> None:
    plain, labels = epoch_of(PLAIN)
    erased, again = epoch_of(CUTOUT)
    assert torch.equal(labels, again)  # nothing else is drawn anew
    gone = (erased == 0).all(1)
    assert torch.equal(erased, plain.masked_fill(gone[:, None], 0))
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(gone.sum((1, 2)), rows * columns)
    assert set(rows.tolist()) == set(columns.tolist()) == {3, 4, 5}  # 5, and less where it extends beyond
    for seen, size in ((gone.any(2), 10), (gone.any(1), 14)):
        assert seen.any(0).sum() == size


def test_rectangles_have_the_areas_and_ratios_that_are_asked_for() -> None:
    boxes = erased_boxes(ERASING, 4000, (100, 120), 0, 0)[0]
    rows, columns = (boxes[:, 2] - boxes[:, 0]).double(), (boxes[:, 3] - boxes[:, 1]).double()
    assert (boxes >= 0).all()
    assert boxes[:, 2].max() <= 100
    assert boxes[:, 3].max() <= 120
    chosen = rows > 0
    assert 0.47 < chosen.double().mean() < 0.53
    share = (rows * columns)[chosen] / 12000
    assert 0.097 < share.min() < 0.11
    assert 0.29 < share.max() < 0.303
    assert share.mean() == pytest.approx(0.2, abs=0.005)
    ratio = (columns / rows)[chosen]
    assert ratio.log().mean() == pytest.approx(0, abs=0.03)
    assert 0.48 < ratio.min() < 0.55
    assert 1.8 < ratio.max() < 2.07


def test_a_rectangle_is_no_larger_than_its_image() -> None:
    augment = PLAIN.model_copy(
        update={"erasing": Erasing(probability=1.0, scale=[0.9, 1.0], ratio=[3.0, 4.0])}
    )
    boxes = erased_boxes(augment, 50, (8, 8), 0, 0)[0]
    assert (boxes[:, 3] == 8).all()
    assert (boxes[:, 1] == 0).all()


@pytest.mark.parametrize("augment", [CUTOUT, ERASING])
def test_rectangles_depend_on_seed_and_epoch_alone(augment: Augment) -> None:
    first, second = (erased_boxes(augment, 50, (10, 10), 1, 2)[0] for _ in range(2))
    assert torch.equal(first, second)
    for seed, epoch in ((2, 1), (1, 3), (3, 0)):
        assert not torch.equal(first, erased_boxes(augment, 50, (10, 10), seed, epoch)[0])


def test_both_are_drawn_apart() -> None:
    both = CUTOUT.model_copy(update={"erasing": ERASING.erasing})
    squares, rectangles = erased_boxes(both, 50, (10, 10), 0, 0)
    assert torch.equal(squares, erased_boxes(CUTOUT, 50, (10, 10), 0, 0)[0])
    assert torch.equal(rectangles, erased_boxes(ERASING, 50, (10, 10), 0, 0)[0])


def test_an_empty_rectangle_erases_nothing() -> None:
    images = torch.ones(2, 3, 4, 4)
    assert torch.equal(erase(images, torch.zeros(2, 4, dtype=torch.long)), images)


@pytest.mark.parametrize("augment", [CUTOUT, ERASING])
def test_label_maps_are_refused(augment: Augment) -> None:
    split = Split(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8))
    (key,) = {"cutout", "erasing"} & augment.model_dump(exclude_none=True).keys()
    found = batches(
        split, batch_size=2, seed=0, epoch=0, augment=augment, mean=(0,) * 3, std=(1,) * 3, device="cpu"
    )
    with pytest.raises(MoonshineError, match=naming(f"augment.{key}", "one label per image", "crop_padding")):
        next(found)
