from __future__ import annotations

import io
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from torchvision.transforms import v2

from moonshine.config.augment import Augment, Erasing, ResizedCrop
from moonshine.data.batches import batches, evaluation_images
from moonshine.data.decoding import decode_image
from moonshine.data.encoded import EncodedSplit
from moonshine.data.store import Split
from moonshine.errors import MoonshineError
from tests.messages import naming
from tests.moonshine.data.photographs import album, encoded, filed, packed, photograph

MEAN, STD = (0.5, 0.25, 0.125), (0.2, 0.3, 0.4)
CROP = ResizedCrop(scale=[0.08, 1.0], ratio=[0.75, 1.3333])
AUGMENT = Augment(crop_padding=0, flip=True, resized_crop=CROP)


def start(split: EncodedSplit, **changes: Any) -> Iterator[tuple[Tensor, Tensor]]:
    options: dict[str, Any] = {
        "batch_size": 4,
        "seed": 3,
        "epoch": 5,
        "augment": AUGMENT,
        "mean": MEAN,
        "std": STD,
        "device": "cpu",
    }
    return batches(split, **{**options, **changes})


def whole(split: EncodedSplit, **changes: Any) -> tuple[Tensor, Tensor]:
    images, labels = zip(*start(split, **changes), strict=True)
    return torch.cat(images), torch.cat(labels)


def children() -> list[Any]:
    """Processes that still run, once those that were told to end have had the time to."""
    until = time.monotonic() + 5
    while (left := multiprocessing.active_children()) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def as_pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())


@pytest.mark.parametrize("augment", [AUGMENT, None])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_pixel(augment: Augment | None, workers: int) -> None:
    split = packed(album(11))
    here = list(start(split, augment=augment))
    there = list(start(split, augment=augment, workers=workers))
    assert [len(labels) for _, labels in here] == [4, 4, 3]
    for (images, labels), (again, labels_again) in zip(here, there, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
    assert children() == []


def test_decoded_images_are_augmented_as_those_of_arrays_are() -> None:
    more = {
        "trivial_augment": True,
        "cutout": 4,
        "erasing": Erasing(probability=0.5, scale=[0.1, 0.3], ratio=[0.5, 2]),
    }
    split = packed(album(9))
    images, labels = whole(split, augment=AUGMENT.model_copy(update=more), with_previous=True)
    cropped, own = whole(split, shuffle=False, mean=(0,) * 3, std=(1 / 255,) * 3)
    arrays: Any = Split(cropped.round().to(torch.uint8), own)
    plain = Augment(crop_padding=0, flip=False).model_copy(update=more)
    again, labels_again = whole(arrays, augment=plain, with_previous=True)
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_files_give_what_packed_pictures_give(tmp_path: Path) -> None:
    contents = album(5)
    images, labels = whole(packed(contents))
    again, labels_again = whole(filed(tmp_path, contents))
    assert torch.equal(images, again)
    assert torch.equal(labels, labels_again)


def test_the_same_seed_and_epoch_whatever_else_is_drawn() -> None:
    split = packed(album(9))
    torch.manual_seed(0)
    images, labels = whole(split)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    for workers in (0, 1):
        again, labels_again = whole(split, workers=workers)
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
        assert torch.equal(torch.get_rng_state(), state)


def test_a_picture_is_varied_alike_at_every_batch_size_and_in_any_order() -> None:
    split = packed(album(9))
    images, labels = whole(split)
    larger, _ = whole(split, batch_size=100)
    ordered, _ = whole(split, shuffle=False)
    assert torch.equal(images, larger)
    assert torch.equal(images, ordered[labels])


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 6}, {"seed": 5, "epoch": 3}])
def test_another_seed_or_epoch_shows_other_parts_in_another_order(other: dict[str, int]) -> None:
    split = packed(album(40))
    images, labels = whole(split)
    others, other_labels = whole(split, **other)
    assert labels.tolist() != other_labels.tolist()
    same = (images[labels.argsort()] == others[other_labels.argsort()]).flatten(1).all(1)
    assert not same.any()


def test_half_of_the_pictures_are_mirrored() -> None:
    split = packed(album(40))
    plain, _ = whole(split, augment=Augment(crop_padding=0, flip=False, resized_crop=CROP), shuffle=False)
    images, _ = whole(split, shuffle=False)
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(images, plain, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(images, plain, strict=True)]
    assert [not each for each in kept] == mirrored
    assert 10 < sum(mirrored) < 30


def test_a_random_part_is_torchvisions() -> None:
    """A picture whose pixels tell their place: what is shown has an area and a shape within the bounds."""
    rows, columns = np.mgrid[0:100, 0:200]
    picture = Image.fromarray(np.stack([rows, columns, 0 * rows], 2).astype(np.uint8))
    split = packed([encoded(picture, "PNG")] * 60, crop=64)
    augment = Augment(crop_padding=0, flip=False, resized_crop=ResizedCrop(scale=[0.2, 0.5], ratio=[0.5, 2]))
    images, _ = whole(split, augment=augment, mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))
    sides = (images.amax((2, 3)) - images.amin((2, 3)) + 1)[:, :2]  # of the part that is shown
    areas, ratios = sides.prod(1) / 20000, sides[:, 1] / sides[:, 0]
    assert 0.17 < areas.min() < 0.3 < 0.4 < areas.max() < 0.55
    assert 0.45 < ratios.min() < 0.8 < 1.4 < ratios.max() < 2.2


def test_evaluation_is_torchvisions_resize_and_centre_crop() -> None:
    contents = album(4)
    images, _ = whole(packed(contents), augment=None, shuffle=False, mean=(0, 0, 0), std=(1, 1, 1))
    rule = v2.Compose([v2.Resize(18, antialias=True), v2.CenterCrop(16)])
    for image, content in zip(images, contents, strict=True):
        expected = as_pixels(rule(Image.open(io.BytesIO(content))))  # of a PIL image, by Pillow
        assert (image * 255 - expected).abs().max() < 2
        tensor = rule(as_pixels(Image.open(io.BytesIO(content))))
        torch.testing.assert_close(image * 255, tensor.float())


def test_normalisation_dtype_and_memory_format() -> None:
    split = packed(album(3))
    plain, _ = whole(split, augment=None, mean=(0, 0, 0), std=(1, 1, 1))
    images, labels = whole(split, augment=None, dtype=torch.bfloat16, channels_last=True)
    expected = (plain - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert labels.dtype == torch.int64
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images.float(), expected, atol=0.02, rtol=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gets_the_same_batches(workers: int) -> None:
    split = packed(album(11))
    images, labels = whole(split)
    on_gpu, labels_on_gpu = whole(split, device="cuda", workers=workers)
    assert on_gpu.device.type == labels_on_gpu.device.type == "cuda"
    torch.testing.assert_close(on_gpu.cpu(), images)
    assert torch.equal(labels_on_gpu.cpu(), labels)


@pytest.mark.parametrize("shards", [2, 3])
def test_shards_are_the_parts_of_every_batch(shards: int) -> None:
    split = packed(album(8))
    parts = [list(start(split, batch_size=3, shard=(index, shards))) for index in range(shards)]
    for (images, labels), *pieces in zip(start(split, batch_size=3), *parts, strict=True):
        assert torch.equal(torch.cat([piece for piece, _ in pieces]), images)
        assert torch.equal(torch.cat([piece for _, piece in pieces]), labels)


def test_inputs_are_the_pixels_of_evaluation(tmp_path: Path) -> None:
    split = packed(album(5))
    images, _ = whole(split, augment=None, shuffle=False, mean=(0, 0, 0), std=(1, 1, 1))
    (found,) = evaluation_images(split, [torch.tensor([4, 1])], workers=1)
    assert found.dtype == torch.uint8
    torch.testing.assert_close(found / 255, images[[4, 1]])


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("JPEG", "RGB", {}),
        ("JPEG", "L", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "RGBA", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("BMP", "RGB", {}),
        ("TIFF", "CMYK", {}),
    ],
)
def test_every_kind_of_picture_becomes_what_pillow_makes_of_it(
    kind: str, mode: str, options: dict[str, Any]
) -> None:
    content = encoded(photograph(1).convert(mode), kind, **options)
    expected = as_pixels(Image.open(io.BytesIO(content)).convert("RGB"))
    assert torch.equal(decode_image(content), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_stands_upright(kind: str) -> None:
    picture = photograph(1, 40, 30)
    tag = picture.getexif()
    tag[0x112] = 6  # turned by a quarter
    found = decode_image(encoded(picture, kind, exif=tag))
    plain = decode_image(encoded(picture, kind))
    assert torch.equal(found, plain.rot90(-1, (1, 2)))


def test_a_picture_with_a_damaged_exif_is_taken_as_it_is() -> None:
    tag = photograph(1).getexif()
    tag[0x112] = 6
    content = bytearray(encoded(photograph(1), exif=tag))
    offset = content.index(b"Exif") + 10  # where its tags begin, beyond its end now
    content[offset : offset + 4] = b"\xff\xff\xff\x7f"
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        lying = decode_image(bytes(content))
    assert torch.equal(lying, as_pixels(Image.open(io.BytesIO(encoded(photograph(1))))))


DAMAGED = {
    "cut short": album(1)[0][:-20],
    "half": album(1)[0][:300],
    "of nothing": b"",
    "of something else": b"<html>404</html>",
    "cut PNG": encoded(photograph(1), "PNG")[:200],
}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_picture_in_the_middle_of_an_epoch_is_named(
    damage: str, workers: int, tmp_path: Path
) -> None:
    split = filed(tmp_path, album(12))
    (tmp_path / "train/é/7.jpg").write_bytes(DAMAGED[damage])
    loader = start(split, shuffle=False, workers=workers)
    assert next(loader)[1].tolist() == [0, 1, 2, 3]
    with pytest.raises(MoonshineError) as error:
        list(loader)
    said = str(error.value)
    assert said.startswith(f"{tmp_path}: 1 image cannot be read: train/é/7.jpg (")
    assert "Traceback" not in said
    assert "BytesIO" not in said
    assert children() == []


def test_all_damaged_pictures_of_a_batch_are_named(tmp_path: Path) -> None:
    split = filed(tmp_path, album(16))
    for i in range(1, 15):
        (tmp_path / f"train/é/{i}.jpg").write_bytes(b"")
    (tmp_path / "train/é/1.jpg").unlink()
    with pytest.raises(MoonshineError, match=naming("1.jpg", "No such file", "4 more")) as error:
        list(start(split, batch_size=16))
    assert str(error.value).count(".jpg (") == 10


def test_workers_end_with_an_epoch_that_is_left(tmp_path: Path) -> None:
    loader = start(packed(album(12)), workers=2)
    next(loader)
    assert len(multiprocessing.active_children()) == 2
    loader.close()  # type: ignore[attr-defined]
    assert children() == []


def test_a_worker_that_is_killed_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is raised while the training loop computes, in the middle of whatever that is."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))
    loader = start(packed(album(40) * 20), workers=1)
    next(loader)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    time.sleep(0.1)
    with pytest.raises(MoonshineError, match=naming("died", worker.pid)) as error:
        list(loader)
    assert "run again: training continues after its last whole epoch" in str(error.value)
    assert children() == []


def test_half_a_batch_of_a_worker_that_died_is_the_same_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn:
        def __init__(self, *arguments: Any, **options: Any) -> None:
            pass

        def __iter__(self) -> Iterator[Tensor]:
            raise ConnectionResetError(104, "Connection reset by peer")
            yield

    monkeypatch.setattr("moonshine.data.decoding.DataLoader", Torn)
    with pytest.raises(MoonshineError, match=r"process that decodes images died .*reset by peer"):
        list(start(packed(album(4)), workers=1))


def test_decoding_leaves_the_handler_of_signals_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)
    handler = signal.getsignal(signal.SIGCHLD)
    list(start(packed(album(2)), workers=1))
    assert signal.getsignal(signal.SIGCHLD) is handler
