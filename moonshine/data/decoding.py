"""Decoding of encoded images into batches, by worker processes ahead of the training loop."""

from __future__ import annotations

import io
import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from moonshine.data.encoded import EncodedSplit
from moonshine.data.rgb import open_rgb
from moonshine.data.seeding import seeded
from moonshine.errors import MoonshineError, first_few, first_line

if TYPE_CHECKING:
    from moonshine.config.augment import ResizedCrop


@dataclass(frozen=True, eq=False)
class Pixels(TorchDataset):
    """Images of a split as uint8 (3, crop, crop), by index: the dataset of a worker process.

    With ``resized_crop`` a random part of each, drawn from ``seed``, ``epoch`` and its index alone; without, the centre
    crop of the split. ``mirrored`` (N,) marks those that are mirrored.
    """

    split: EncodedSplit
    resized_crop: ResizedCrop | None = None
    seed: int = 0
    epoch: int = 0
    mirrored: Tensor | None = None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Tensor | str:
        """Return an image, or the reason why there is none: an exception in a worker would arrive unreadable."""
        try:
            return self._pixels(index)
        except Exception as error:  # decoders of damaged files raise almost anything
            return f"{self.split.name(index)} ({_reason(error)})"

    def stack(self, images: Sequence[Tensor | str]) -> Tensor | list[str]:
        """Return a batch, uint8 (n, 3, crop, crop), or the reasons of missing images."""
        failures = [each for each in images if isinstance(each, str)]
        if failures:
            return failures
        if not images:
            return torch.empty(0, *self.split.image_shape, dtype=torch.uint8)
        batch: Tensor = default_collate(list(images))  # straight into shared memory where this is a worker
        return batch

    def _pixels(self, index: int) -> Tensor:
        from torchvision.transforms.v2 import functional

        image = decode_image(self.split.read(index))
        size = [self.split.crop, self.split.crop]
        if self.resized_crop:
            box = self._box(image, index)
            image = functional.resized_crop(image, *box, size, antialias=True)
        else:
            resized = functional.resize(image, [self.split.resize], antialias=True)
            image = functional.center_crop(resized, size)
        if self.mirrored is not None and self.mirrored[index]:
            image = image.flip(2)
        return image

    def _box(self, image: Tensor, index: int) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the part of an image that this epoch uses."""
        from torchvision.transforms import RandomResizedCrop

        assert self.resized_crop
        own = seeded("crop", self.seed, self.epoch, index)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            torch.default_generator.manual_seed(own.initial_seed())
            return RandomResizedCrop.get_params(image, self.resized_crop.scale, self.resized_crop.ratio)


def decode_image(encoded: bytes) -> Tensor:
    """Return an image of any size, uint8 (3, H, W), from its bytes, as `moonshine.data.rgb.open_rgb` reads it.

    Raises whatever the decoder raises for bytes that are not a whole image.
    """
    # Pillow decodes JPEG as fast as torchvision, whose decoders are deprecated; torchvision's resizing of tensors is
    # faster than Pillow's: benchmarks/loading.py.
    return torch.from_numpy(np.array(open_rgb(io.BytesIO(encoded)))).permute(2, 0, 1)


def decode_batches(
    pixels: Pixels, chosen: Sequence[Tensor], *, workers: int = 0, pinned: bool = False
) -> Generator[Tensor]:
    """Yield the images of each tensor of indices in ``chosen`` as one batch, uint8 (n, 3, crop, crop), on the CPU.

    ``workers`` processes decode ahead, two batches each; 0 decodes in this process. Their number changes no pixel, and
    they end with this generator. ``pinned``: into pinned memory, which a GPU can copy from while it computes. The
    global generators are not used. MoonshineError naming the images of a batch that cannot be read, or, within seconds,
    that a worker process died.
    """
    import torchvision  # noqa: F401  # once here, not once in every process

    loader = DataLoader(
        pixels,
        batch_sampler=[indices.tolist() for indices in chosen],
        num_workers=workers,
        collate_fn=pixels.stack,
        worker_init_fn=_begin,
        pin_memory=pinned,
        generator=torch.Generator(),
    )
    with _without_handler():
        batches = iter(loader)
    try:
        while (batch := _next(batches)) is not None:
            if isinstance(batch, list):
                raise _unreadable(pixels.split, batch)
            yield batch
    finally:
        del batches  # ends its processes, even if an error is kept


@contextmanager
def _without_handler() -> Iterator[None]:
    """Undo torch's handler of SIGCHLD, which raises in the main thread at an arbitrary point when a worker dies.

    The DataLoader also checks its workers every five seconds while it waits for a batch.
    """
    before = signal.getsignal(signal.SIGCHLD)
    yield
    if signal.getsignal(signal.SIGCHLD) is not before:  # torch sets one in the main thread, once per process
        signal.signal(signal.SIGCHLD, before)


def _next(batches: Iterator[Any]) -> Any:
    """Return the next batch, None after the last; MoonshineError if a worker died, even while sending a batch."""
    try:
        return next(batches, None)
    except (RuntimeError, OSError, EOFError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise MoonshineError(
            f"a process that decodes images died ({first_line(error)}): it was killed, or memory ran out, perhaps the "
            "shared memory in /dev/shm, of which runtime.workers sets how much is used; run again: training "
            "continues after its last whole epoch"
        ) from None


def _begin(worker: int) -> None:
    """Silence Pillow's warning about damaged EXIF in a worker: ImageNet has a few, and every process would warn."""
    warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)


def _unreadable(split: EncodedSplit, failures: list[str]) -> MoonshineError:
    count, where = len(failures), f"{split.root}: " if split.root else ""
    return MoonshineError(
        f"{where}{count} {'image' if count == 1 else 'images'} cannot be read: "
        f"{first_few(failures)}; "
        "repair or replace them under the same names and run again: training continues after its last whole epoch"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0].partition(" <_io")[0] or type(error).__name__
