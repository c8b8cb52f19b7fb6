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
"""Path -> block at the place."""


@dataclass(frozen=True)
class Space:
    """Networks of one structure with a choice of blocks at its places.

    A place keeps its block of ``structure`` unless another is chosen. ``fitting`` maps a place's module path to the
    blocks that fit, in the paper's notation; a place without any keeps its block. Places do not nest.
    ``refused`` maps place -> block -> reason why it does not fit. ``input_shape`` is (channels, height, width);
    ``trust`` names the user's code that building may run, as in `moonshine.structures.build.from_structure`; without a
    name that builds it, the network itself is the ``module``, with ordinary convolutions at all places.
    MoonshineError where no block fits any place, and for a place that the structure does not have.
    """

    structure: Structure
    fitting: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, Mapping[str, str]]
    input_shape: tuple[int, ...]
    trust: Trust = ()
    module: nn.Module | None = None

    def __post_init__(self) -> None:
        known = self.structure.blocks
        if unknown := [path for path in self.fitting if path not in known]:
            raise MoonshineError(f"fitting: found {', '.join(unknown)}; allowed: {', '.join(known)}")
        if known and not self.places:
            raise MoonshineError(
                f"{self.structure.network}: none of the blocks fits any of its {len(known)} places; "
                "allowed: blocks of which one fits somewhere"
            )

    @property
    def places(self) -> tuple[str, ...]:
        """Paths of the places with a choice, in order."""
        return tuple(path for path, blocks in self.fitting.items() if blocks)

    @property
    def blocks(self) -> tuple[str, ...]:
        """Blocks that fit at one place or more."""
        return tuple(dict.fromkeys(block for blocks in self.fitting.values() for block in blocks))

    def build(self, blocks: Mixture) -> nn.Module:
        """Build the network with these blocks, initialised from torch's global generator, on torch's default device."""
        if self.module is not None:
            import torch

            from moonshine.networks.copying import copy_of
            from moonshine.substitution.substitute import substitute

            on_meta = torch.get_default_device().type == "meta"
            network = copy_of(self.module).to("meta") if on_meta else self.module
            return substitute(network, self.structure.with_blocks(blocks).blocks)
        return from_structure(self.structure.with_blocks(blocks), self.trust)

    def uniform(self, block: str) -> dict[str, str]:
        """Choose one block at every place where it fits."""
        return {path: block for path in self.places if block in self.fitting[path]}
