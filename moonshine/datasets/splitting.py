"""Random numbers seeded by a text, and stratified splits drawn with them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]


def random_state(text: str) -> np.random.RandomState:
    """Return a generator seeded by ``text`` alone, whose stream numpy promises never to change."""
    import numpy as np

    return np.random.RandomState(np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4"))


def hold_out(labels: NDArray[Any], share: float, *, seed: int, key: str) -> tuple[Indices, Indices]:
    """Return indices (kept, held out), each ascending: ``share`` of the images, drawn at random within each class.

    ``labels`` (N,) are 0 to K - 1. The split depends on labels, share, seed and ``key`` ("data.test",
    "data.validation") only, so that two splits of one seed are independent. Counts per class follow the share
    by largest remainders and add up to ``round(share * N)``.
    MoonshineError, naming ``key``, if a class would have no image on one side.
    """
    import numpy as np

    sizes = np.bincount(labels)
    held = _largest_remainders(sizes, share)
    empty = np.flatnonzero((held == 0) | (held == sizes))
    if len(empty):
        label = int(empty[0])
        side = "held out" if held[label] == 0 else "left"
        smallest = int(sizes.min())
        raise MoonshineError(
            f"{key}: {share} leaves class {label}, which has {sizes[label]} images, with none {side}; "
            + (
                "no share can: that needs two images of every class"
                if smallest < 2
                else f"allowed: about {1 / smallest:.2g} to {1 - 1 / smallest:.2g}"
            )
        )
    draws = random_state(f"{key} {seed}")
    mask = np.zeros(len(labels), dtype=bool)
    for label, count in enumerate(held.tolist()):
        mask[draws.permutation(np.flatnonzero(labels == label))[:count]] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def subset(labels: NDArray[Any], most: int, *, seed: int, split: str) -> Indices:
    """Return the indices, ascending, of at most ``most`` images, drawn at random within each class.

    Each class keeps its share of the images, by largest remainders. The subset depends on labels, ``most``, seed and
    ``split`` only. MoonshineError if a class would have none.
    """
    import numpy as np

    if len(labels) <= most:
        return np.arange(len(labels))
    sizes = np.bincount(labels)
    kept = _largest_remainders(sizes, most / len(labels))
    if len(empty := np.flatnonzero((kept == 0) & (sizes > 0))):
        raise MoonshineError(
            f"data.limit: {most} of the {len(labels)} {split} images leave none of class {empty[0]}, which has "
            f"{sizes[empty[0]]}; allowed: about {-(-len(labels) // int(sizes[sizes > 0].min()))} or more"
        )
    draws = random_state(f"data.limit {split} {seed}")
    chosen = [
        draws.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in enumerate(kept.tolist())
    ]
    return np.sort(np.concatenate(chosen))


def _largest_remainders(sizes: Indices, share: float) -> Indices:
    import numpy as np

    exact = sizes * share
    counts = np.floor(exact).astype(np.int64)
    missing = round(share * int(sizes.sum())) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts
