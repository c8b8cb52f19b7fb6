"""Random generators of augmentation."""

from __future__ import annotations

import hashlib

import torch


def seeded(*parts: str | int) -> torch.Generator:
    """Return a generator that depends on ``parts`` alone.

    They are hashed, so that (0, 1) and (1, 0), or seed + epoch in general, share nothing.
    """
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
