"""Search space: networks that differ in the block at each of their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from moonshine.errors import MoonshineError
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure

if TYPE_CHECKING:
    from torch import nn

    from moonshine.networks.models import Trust

Mixture = Mapping[str, str]
"""The block at each place, by path."""


@dataclass(frozen=True)
class Space:
    """Networks of one structure that differ in the block at each of some places.

    A place keeps its block of ``structure`` unless another is chosen. ``fitting`` maps a place's module path to the
    blocks that fit, in the paper's notation; a place where none fits stays as it is. Places do not nest.
    ``refused`` says why other blocks do not: place -> block -> reason. ``input_shape`` is (channels, height, width);
    ``trust`` names the user's code that building may run, as in `moonshine.structures.build.from_structure`.
    MoonshineError for a space without choices and for a place that the structure does not have.
    """

    structure: Structure
    fitting: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, Mapping[str, str]]
    input_shape: tuple[int, ...]
    trust: Trust = ()

    def __post_init__(self) -> None:
        known = self.structure.blocks
        if unknown := [path for path in self.fitting if path not in known]:
            raise MoonshineError(f"fitting: found {', '.join(unknown)}; allowed: {', '.join(known)}")
        if not self.places:
            raise MoonshineError(
                f"{self.structure.network}: none of the blocks fits any of its {len(known)} places; "
                "allowed: blocks that fit at one at least"
            )

    @property
    def places(self) -> tuple[str, ...]:
        """The paths where there is something to choose, in order."""
        return tuple(path for path, blocks in self.fitting.items() if blocks)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Every block that fits somewhere."""
        return tuple(dict.fromkeys(block for blocks in self.fitting.values() for block in blocks))

    def build(self, blocks: Mixture) -> nn.Module:
        """Build the network with these blocks, initialised from torch's global generator."""
        return from_structure(self.structure.with_blocks(blocks), self.trust)

    def uniform(self, block: str) -> dict[str, str]:
        """Choose one block at every place where it fits."""
        return {path: block for path in self.places if block in self.fitting[path]}
