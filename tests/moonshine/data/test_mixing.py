"""Mixup and cutmix: what is mixed with what, and in which shares."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from moonshine.config.augment import Augment
from moonshine.data.batches import batches
from moonshine.data.mixing import Mix, draw_mixes
from moonshine.data.store import Split

PLAIN = Augment(crop_padding=1, flip=True)
MIXUP = PLAIN.model_copy(update={"mixup": 0.4})
CUTMIX = PLAIN.model_copy(update={"cutmix": 1.0})
BOTH = MIXUP.model_copy(update={"cutmix": 1.0})
SIZE = (10, 12)


def images_of(count: int = 11, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    pixels = torch.randint(256, (count, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator())
    shared = {
        "batch_size": 4,
        "seed": 3,
        "epoch": 5,
        "augment": PLAIN,
        "device": "cpu",
        "channels_last": True,
    }
    mean_and_std = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    return list(batches(Split(pixels, torch.arange(count)), **{**shared, **mean_and_std, **changes}))


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_each_image_is_mixed_with_the_one_before_it_in_its_batch_in_every_shard(shards: int) -> None:
    mixes = draw_mixes(BOTH, 3, SIZE, 3, 5)
    parts = [images_of(shard=(index, shards), with_previous=True) for index in range(shards)]
    for step, (images, labels) in enumerate(images_of()):
        mix, before = mixes[step], images.roll(1, 0)
        if mix.box:
            top, left, bottom, right = mix.box
            is_other = torch.zeros(SIZE, dtype=torch.bool)
            is_other[top:bottom, left:right] = True
            assert is_other.double().mean() == pytest.approx(mix.share)
            expected = torch.where(is_other, before, images)
        else:
            expected = (1 - mix.share) * images + mix.share * before
        found = [mix.of(*part[step]) for part in parts]
        torch.testing.assert_close(torch.cat([each for each, _, _ in found]), expected)
        assert torch.equal(torch.cat([own for _, own, _ in found]), labels)
        assert torch.equal(torch.cat([mixed.labels for _, _, mixed in found]), labels.roll(1))
        assert {mixed.share for _, _, mixed in found} == {mix.share}


def test_a_batch_of_one_image_is_mixed_with_itself() -> None:
    ((images, labels),) = images_of(1)
    ((with_previous, both),) = images_of(1, with_previous=True)
    mixed, own, other = Mix(0.3).of(with_previous, both)
    torch.testing.assert_close(mixed, images)
    assert torch.equal(own, labels)
    assert torch.equal(other.labels, labels)


def test_both_kinds_are_drawn_and_shares_follow_alpha() -> None:
    mixes = draw_mixes(BOTH, 4000, SIZE, 0, 0)
    assert 0.47 < sum(mix.box is not None for mix in mixes) / 4000 < 0.53
    shares = torch.tensor([mix.share for mix in draw_mixes(MIXUP, 4000, SIZE, 0, 0)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * 0.4 + 1)), rel=0.05)  # of Beta(alpha, alpha)
    cut = [mix for mix in draw_mixes(CUTMIX, 4000, (64, 64), 0, 0) if mix.box]
    assert len(cut) == 4000
    boxes = torch.tensor([mix.box for mix in cut])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= 64).all()
    assert max(mix.share for mix in cut) > 0.8


def test_they_depend_on_seed_and_epoch_alone() -> None:
    assert draw_mixes(BOTH, 9, SIZE, 1, 2) == draw_mixes(BOTH, 9, SIZE, 1, 2)
    assert draw_mixes(BOTH, 9, SIZE, 1, 2) == draw_mixes(BOTH, 20, SIZE, 1, 2)[:9]
    assert draw_mixes(BOTH, 9, SIZE, 1, 2) != draw_mixes(BOTH, 9, SIZE, 2, 1)
    assert draw_mixes(PLAIN, 9, SIZE, 1, 2) == []
