"""Images per second of the loader that decodes pictures as they are needed, and how many processes feed a GPU.

    python benchmarks/loading.py [--pictures 1000] [--repeats 5] [--workers 1 2]

The pictures are drawn from a seed, of ImageNet's typical size (500x375) and of about its bytes (--quality), as files in
a temporary folder that the system then holds in memory: a disk is not measured. Each figure is the median over passes
through all of them, with the range; the start of the processes is part of a pass. Also timed, in one process: the parts
of the work, and the same work by other decoders and resizers, which is why the loader has the ones it has.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from moonshine.config.augment import Augment, ResizedCrop
from moonshine.data.batches import batches
from moonshine.data.decoding import decode_image
from moonshine.data.encoded import EncodedSplit, Packed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENT = Augment(
    crop_padding=0, flip=True, resized_crop=ResizedCrop(scale=[0.08, 1.0], ratio=[0.75, 1.3333])
)
SIZE = (500, 375)
GPUS = (1500, 3000, 6000)
"""Images per second that a GPU may train on; divided by what a process loads."""


def picture(draws: np.random.RandomState, quality: int) -> bytes:
    """A JPEG with large and small shapes and noise."""
    layers = [
        np.asarray(
            Image.fromarray(draws.randint(256, size=(size * 3, size * 4, 3)).astype(np.uint8)).resize(
                SIZE, Image.Resampling.BICUBIC
            )
        ).astype(np.int16)
        for size in (4, 32)
    ]
    noise = draws.randint(-12, 13, size=layers[0].shape)
    pixels = np.clip(layers[0] + (layers[1] - 128) // 3 + noise, 0, 255).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=quality)
    return content.getvalue()


def album(root: Path, count: int, quality: int) -> EncodedSplit:
    """So many pictures as files below ``root``."""
    draws = np.random.RandomState(0)
    contents = [picture(draws, quality) for _ in range(count)]
    print(
        f"{count} JPEGs of {SIZE[0]}x{SIZE[1]}, {statistics.mean(map(len, contents)) / 1e3:.0f} kB on average"
    )
    for index, content in enumerate(contents):
        (root / f"{index}.JPEG").write_bytes(content)
    names = Packed.of([f"{index}.JPEG".encode() for index in range(count)])
    return EncodedSplit(names, torch.arange(count), str(root), 256, 224)


def loaded(
    split: EncodedSplit, workers: int, augment: Augment | None, repeats: int, batch: int
) -> list[float]:
    """Images per second, one figure per pass."""
    found = []
    for epoch in range(repeats):
        loader = batches(
            split,
            batch_size=batch,
            seed=0,
            epoch=epoch,
            augment=augment,
            mean=MEAN,
            std=STD,
            device="cpu",
            channels_last=True,
            workers=workers,
        )
        start = time.perf_counter()
        count = sum(len(labels) for _, labels in loader)
        found.append(count / (time.perf_counter() - start))
    return found


def timed(name: str, work: Callable[[bytes], object], contents: Sequence[bytes], repeats: int) -> None:
    """Print milliseconds per picture of ``work``."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        for content in contents:
            work(content)
        found.append(1e3 * (time.perf_counter() - start) / len(contents))
    print(f"{name:<52}{statistics.median(found):6.2f} ms   {min(found):.2f} to {max(found):.2f}", flush=True)


def parts(contents: Sequence[bytes], repeats: int) -> None:
    """What a picture costs, part by part, and what it would cost otherwise."""

    def torchvisions(content: bytes) -> torch.Tensor:
        return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)

    def box(picture: torch.Tensor | Image.Image) -> tuple[int, int, int, int]:
        return RandomResizedCrop.get_params(picture, AUGMENT.resized_crop.scale, AUGMENT.resized_crop.ratio)  # type: ignore[union-attr]

    def by_torch(content: bytes) -> torch.Tensor:
        picture = decode_image(content)
        return functional.resized_crop(picture, *box(picture), [224, 224], antialias=True)

    def by_pillow(content: bytes) -> np.ndarray:
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        top, left, height, width = box(picture)
        shown = (left, top, left + width, top + height)
        return np.asarray(picture.resize((224, 224), Image.Resampling.BILINEAR, box=shown))

    timed("decoded by Pillow, as the loader does", decode_image, contents, repeats)
    timed("decoded by torchvision", torchvisions, contents, repeats)
    timed("and a random part resized by torchvision, likewise", by_torch, contents, repeats)
    timed("and a random part resized by Pillow", by_pillow, contents, repeats)


def main() -> None:
    """Print the parts of the work, images per second by workers, and workers by GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--quality", type=int, default=93)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # of what the loader does not use
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        split = album(Path(folder), options.pictures, options.quality)
        parts([split.read(index) for index in range(100)], options.repeats)
        rates = {}
        for what, augment in (("training", AUGMENT), ("evaluation", None)):
            for workers in options.workers:
                found = loaded(split, workers, augment, options.repeats, options.batch)
                rates[what, workers] = statistics.median(found)
                print(
                    f"{what:<12}{workers} workers {rates[what, workers]:7.0f} images/s   "
                    f"{min(found):.0f} to {max(found):.0f}",
                    flush=True,
                )
    each = rates["training", options.workers[0]] / options.workers[0]
    for gpu in GPUS:
        print(f"a GPU that trains on {gpu} images/s needs {-(-gpu // each):.0f} workers, and a core for each")


if __name__ == "__main__":
    main()
