"""TrivialAugment: each operation is torchvision's, and draws follow (seed, epoch) alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from moonshine.config.augment import Augment
from moonshine.data.batches import batches
from moonshine.data.store import Split
from moonshine.data.trivial_augment import OPERATIONS, STRENGTHS, augmented, draw_operations

SPACE = v2.TrivialAugmentWide._AUGMENTATION_SPACE


def images_of(count: int, channels: int = 3, height: int = 34, width: int = 40) -> Tensor:
    """Smooth images with many values, and a constant channel in the first."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(count, channels, 5, 5, generator=generator) * 200 + 20
    found = torch.nn.functional.interpolate(noise, (height, width), mode="bilinear").to(torch.uint8)
    found[0, 0] = 77
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str, channels: int) -> None:
    """But for rounding: by one grey value, and of coordinates that lie between two pixels."""
    theirs = v2.TrivialAugmentWide()
    magnitudes, signed = SPACE[name][0](STRENGTHS, 34, 40), SPACE[name][1]
    operation = OPERATIONS[name]
    assert operation.signed is signed
    number = list(OPERATIONS).index(name)
    images = images_of(STRENGTHS, channels)
    ours = torch.linspace(operation.least, operation.most, STRENGTHS)
    for sign in (1, -1) if signed else (1,):
        found = augmented(images, torch.full((STRENGTHS,), number), sign * ours)
        for step, image in enumerate(images):
            magnitude = 0.0 if magnitudes is None else sign * float(magnitudes[step])
            expected = theirs._apply_image_or_video_transform(
                image, name, magnitude, interpolation=InterpolationMode.NEAREST, fill={}
            )
            far = (found[step].int() - expected.int()).abs() > 1
            assert far.double().mean() < 0.02, (step, sign)


def test_every_operation_of_torchvision_is_there() -> None:
    assert list(OPERATIONS) == list(SPACE)


def test_a_small_image_is_shifted_by_its_side_at_most() -> None:
    images = images_of(3, height=8, width=16) + 1
    number = torch.full((3,), list(OPERATIONS).index("TranslateX"))
    found = augmented(images, number, torch.tensor([0.5, -0.25, 1.0]))
    assert torch.equal(found[0, :, :, 8:], images[0, :, :, :8])
    assert not found[0, :, :, :8].any()
    assert torch.equal(found[1, :, :, :12], images[1, :, :, 4:])
    assert not found[2].any()


def test_other_numbers_of_channels() -> None:
    for number in range(len(OPERATIONS)):
        images = images_of(2, channels=5)
        assert augmented(images, torch.full((2,), number), torch.full((2,), 0.5)).shape == images.shape


def test_operations_and_strengths_are_drawn_evenly_from_seed_and_epoch() -> None:
    numbers, strengths = draw_operations(14000, 1, 2)
    assert all(850 < count < 1150 for count in Counter(numbers.tolist()).values())
    assert len(Counter(numbers.tolist())) == 14
    assert (strengths[numbers == 5] < 0).double().mean() == pytest.approx(0.5, abs=0.06)
    assert strengths[numbers == 10].round().unique().tolist() == [2, 3, 4, 5, 6, 7, 8]
    again = draw_operations(14000, 1, 2)
    assert torch.equal(numbers, again[0])
    assert torch.equal(strengths, again[1])
    assert not torch.equal(numbers, draw_operations(14000, 2, 1)[0])


def test_an_image_gets_its_operation_in_any_batch_and_shard() -> None:
    images = images_of(11)
    augment = Augment(crop_padding=0, flip=False, trivial_augment=True)
    numbers, strengths = draw_operations(11, 3, 5)
    expected = augmented(images, numbers, strengths)
    assert not torch.equal(expected, images)
    shared = {"seed": 3, "epoch": 5, "augment": augment, "mean": (0,) * 3, "std": (1,) * 3, "device": "cpu"}
    for batch_size, shards in ((11, 1), (4, 2)):
        for index in range(shards):
            split = Split(images, torch.arange(11))
            for found, labels in batches(split, batch_size=batch_size, shard=(index, shards), **shared):  # type: ignore[arg-type]
                torch.testing.assert_close(found, expected[labels] / 255)
