from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from moonshine.config.augment import Augment
from moonshine.data.batches import UNLABELLED, batches, draw
from moonshine.data.store import VOID, Split
from moonshine.errors import MoonshineError
from tests.messages import naming

MEAN, STD = (0.5, 0.25, 0.125), (0.2, 0.3, 0.4)


def split_of(count: int, height: int = 8, width: int = 8, channels: int = 3) -> Split:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(1, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(count))  # the label tells which image it is


def epoch_of(split: Split, **changes: Any) -> list[tuple[Tensor, Tensor]]:
    options: dict[str, Any] = {
        "batch_size": 4,
        "seed": 3,
        "epoch": 5,
        "augment": Augment(crop_padding=2, flip=True),
        "mean": MEAN,
        "std": STD,
        "device": "cpu",
    }
    return list(batches(split, **{**options, **changes}))


def whole(split: Split, **changes: Any) -> tuple[Tensor, Tensor]:
    images, labels = zip(*epoch_of(split, **changes), strict=True)
    return torch.cat(images), torch.cat(labels)


def normalise(image: np.ndarray) -> np.ndarray:
    mean, std = (np.array(values).reshape(-1, 1, 1) for values in (MEAN, STD))
    return (image.astype(np.float64) / 255 - mean) / std


def reference_crop(image: np.ndarray, top: int, left: int, mirrored: bool, padding: int) -> np.ndarray:
    """One image, as torchvision's RandomCrop and RandomHorizontalFlip do it."""
    _, height, width = image.shape
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    cropped = padded[:, top : top + height, left : left + width]
    return cropped[:, :, ::-1] if mirrored else cropped


@given(
    count=st.integers(1, 20),
    batch_size=st.integers(1, 24),
    padding=st.integers(0, 9),
    flip=st.booleans(),
    size=st.tuples(st.integers(8, 12), st.integers(8, 12)),
    seed=st.integers(0, 10**6),
)
def test_batches_equal_a_reference_done_per_image(
    count: int, batch_size: int, padding: int, flip: bool, size: tuple[int, int], seed: int
) -> None:
    split = split_of(count, *size)
    images, labels = whole(
        split, batch_size=batch_size, augment=Augment(crop_padding=padding, flip=flip), seed=seed
    )
    draws = draw(count, seed=seed, epoch=5, rows=2 * padding + 1, columns=2 * padding + 1)
    assert labels.tolist() == draws.order.tolist()
    for image, i in zip(images.numpy(), labels.tolist(), strict=True):
        place = int(draws.top[i]), int(draws.left[i]), bool(draws.mirrored[i]) and flip
        expected = normalise(reference_crop(split.images[i].numpy(), *place, padding))
        np.testing.assert_allclose(image, expected, atol=2e-6)


def test_the_same_seed_and_epoch_whatever_else_is_drawn() -> None:
    split = split_of(11)
    torch.manual_seed(0)
    first = epoch_of(split)
    torch.manual_seed(1)
    torch.rand(7)
    state = torch.get_rng_state()
    second = epoch_of(split)
    assert torch.equal(torch.get_rng_state(), state)
    for (images, labels), (again, labels_again) in zip(first, second, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)


def test_an_image_is_augmented_alike_at_every_batch_size_and_in_any_order() -> None:
    split = split_of(11)
    images, labels = whole(split)
    larger, labels_larger = whole(split, batch_size=100)
    assert torch.equal(images, larger)
    assert torch.equal(labels, labels_larger)
    ordered, _ = whole(split, shuffle=False)
    assert torch.equal(images, ordered[labels])


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 6}, {"seed": 5, "epoch": 3}])
def test_another_seed_or_epoch_is_another_order_and_other_crops(other: dict[str, int]) -> None:
    split = split_of(64)
    images, labels = whole(split)
    others, other_labels = whole(split, **other)
    assert labels.tolist() != other_labels.tolist()
    assert not torch.equal(images[labels.argsort()], others[other_labels.argsort()])


@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_image_exactly_once_and_the_last_batch_kept(batch_size: int, shuffle: bool) -> None:
    sizes = [len(labels) for _, labels in epoch_of(split_of(11), batch_size=batch_size, shuffle=shuffle)]
    full, rest = divmod(11, batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0)
    _, labels = whole(split_of(11), batch_size=batch_size, shuffle=shuffle)
    assert sorted(labels.tolist()) == list(range(11))
    assert (labels.tolist() == list(range(11))) is not shuffle


def test_without_augmentation_images_are_only_normalised() -> None:
    split = split_of(6)
    images, labels = whole(split, augment=None, shuffle=False)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(images, normalise(split.images.numpy()), atol=2e-6)


def test_flips_are_flips_of_half_of_the_images() -> None:
    split = split_of(400)
    plain, _ = whole(split, augment=None, shuffle=False)
    images, _ = whole(split, augment=Augment(crop_padding=0, flip=True), shuffle=False)
    mirrored = torch.tensor([torch.equal(a, b.flip(2)) for a, b in zip(images, plain, strict=True)])
    kept = torch.tensor([torch.equal(a, b) for a, b in zip(images, plain, strict=True)])
    assert torch.equal(mirrored, ~kept)
    assert 150 < int(mirrored.sum()) < 250


def test_crops_reach_every_offset_and_no_further() -> None:
    draws = draw(2000, seed=0, epoch=0, rows=5, columns=5)
    for offsets in (draws.top, draws.left):
        assert sorted(set(offsets.tolist())) == [0, 1, 2, 3, 4]
    assert len(set(zip(draws.top.tolist(), draws.left.tolist(), strict=True))) == 25


def test_switching_the_crop_off_leaves_order_and_flips_alone() -> None:
    cropped, plain = (draw(50, seed=1, epoch=2, rows=places, columns=places) for places in (9, 1))
    assert torch.equal(cropped.order, plain.order)
    assert torch.equal(cropped.mirrored, plain.mirrored)
    assert not plain.top.any()


def test_padding_is_black_before_normalisation() -> None:
    split = Split(torch.full((200, 3, 8, 8), 255, dtype=torch.uint8), torch.arange(200))
    images, _ = whole(split, augment=Augment(crop_padding=2, flip=False))
    white, black = normalise(np.full((3, 1, 1), 255)), normalise(np.zeros((3, 1, 1)))
    for channel in range(3):
        values = images[:, channel].unique().tolist()
        assert values == pytest.approx([black[channel].item(), white[channel].item()], rel=1e-6)


def test_dtype_and_memory_format() -> None:
    split = split_of(5)
    plain, _ = whole(split)
    (images, labels), *_ = epoch_of(split, batch_size=5, dtype=torch.bfloat16, channels_last=True)
    assert images.dtype == torch.bfloat16
    assert labels.dtype == torch.int64
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, plain.bfloat16())


def test_the_split_is_left_as_it_was() -> None:
    split = split_of(5)
    before = split.images.clone()
    epoch_of(split, augment=None, shuffle=False)
    epoch_of(split)
    assert torch.equal(split.images, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kept_there", [True, False])
def test_a_gpu_gets_the_same_batches(kept_there: bool) -> None:
    split = split_of(11)
    images, labels = whole(split)
    on_gpu, labels_on_gpu = whole(split.to("cuda") if kept_there else split, device="cuda")
    assert on_gpu.device.type == labels_on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_gpu.cpu(), images)
    assert torch.equal(labels_on_gpu.cpu(), labels)


def dense(count: int, height: int = 10, width: int = 12) -> Split:
    """Each pixel's label is its red value, so that an image and its map must move as one."""
    split = split_of(count, height, width)
    images = split.images.remainder(250)
    images[:, :, 0, 0] = 0
    labels = images[:, 0].clone()
    labels[:, 3, 4] = VOID
    return Split(images, labels)


@given(
    padding=st.integers(0, 4),
    flip=st.booleans(),
    crop=st.none() | st.tuples(st.integers(8, 10), st.integers(8, 12)).map(list),
    seed=st.integers(0, 100),
)
def test_label_maps_move_with_their_images(
    padding: int, flip: bool, crop: list[int] | None, seed: int
) -> None:
    augment = Augment(crop_padding=padding, flip=flip, crop=crop)
    images, labels = whole(dense(5), augment=augment, seed=seed, mean=(0, 0, 0), std=(1, 1, 1))
    assert images.shape[2:] == labels.shape[1:] == tuple(crop or (10, 12))
    assert labels.dtype == torch.int64
    red = (images[:, 0] * 255).round().long()
    labelled = labels != UNLABELLED
    assert torch.equal(red[labelled], labels[labelled])
    if padding == 0 and crop is None:
        assert (~labelled).sum() == 5  # the void pixel of each image, and no other


def test_what_is_padded_has_no_label() -> None:
    _, labels = whole(dense(50), augment=Augment(crop_padding=3, flip=False))
    assert (labels == UNLABELLED).sum() > 50 * 10


def test_a_crop_that_is_larger_than_the_padded_images_is_refused() -> None:
    with pytest.raises(MoonshineError, match=naming("augment.crop", "[13, 12]", "[12, 14]")):
        epoch_of(dense(2), augment=Augment(crop_padding=1, flip=False, crop=[13, 12]))


@pytest.mark.parametrize("shards", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [3, 6, 50])
def test_shards_are_the_parts_of_every_batch(shards: int, batch_size: int) -> None:
    split = split_of(11)
    parts = [epoch_of(split, batch_size=batch_size, shard=(index, shards)) for index in range(shards)]
    for (images, labels), *pieces in zip(epoch_of(split, batch_size=batch_size), *parts, strict=True):
        assert torch.equal(torch.cat([piece for piece, _ in pieces]), images)
        assert torch.equal(torch.cat([piece for _, piece in pieces]), labels)
