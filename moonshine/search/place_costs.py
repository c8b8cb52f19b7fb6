"""The cost that each block adds at each place, so that a candidate's cost needs no network to be built."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from moonshine.costs.file_sizes import Stored, stored, stored_bytes
from moonshine.costs.latency import unreliable
from moonshine.costs.metering import parts
from moonshine.errors import MoonshineError
from moonshine.search.place_latency import Latencies, measure_latencies
from moonshine.search.space import Blocks, Space

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """What a place, or all that is no place, adds to the costs of its network."""

    parameters: int
    macs: int
    peak_activation_bytes: int  # of everything that lives while it runs
    stored: tuple[Stored, ...]  # its tensors in the fp32 safetensors file
    estimates: Mapping[str, float] = field(
        default_factory=dict
    )  # by measure: latency, sizes of exported files


@dataclass(frozen=True)
class Costs:
    """The costs of every network of a space, from the shares of its places.

    A choice names a block for every place. Exact, and equal to `moonshine.costs.cost.cost` of the built network, except
    for what are estimates: ``of`` takes the names in `moonshine.costs.budgets.MEASURES`, in their units.
    """

    rest: Share
    table: Mapping[str, Mapping[str, Share]]

    def parameters(self, blocks: Blocks) -> int:
        return sum(share.parameters for share in self._shares(blocks))

    def macs(self, blocks: Blocks) -> int:
        return sum(share.macs for share in self._shares(blocks))

    def peak_activation_bytes(self, blocks: Blocks) -> int:
        return max(share.peak_activation_bytes for share in self._shares(blocks))

    def bytes(self, blocks: Blocks) -> int:
        return stored_bytes(row for share in self._shares(blocks) for row in share.stored)

    def of(self, measure: str, blocks: Blocks) -> float:
        if measure in _EXACT:
            return _EXACT[measure](self, blocks)
        return sum(share.estimates[measure] for share in self._shares(blocks))

    def with_estimate(self, measure: str, rest: float, table: Mapping[str, Mapping[str, float]]) -> Costs:
        """These costs and one more measure, which is a sum over the rest and the places."""

        def add(share: Share, value: float) -> Share:
            return replace(share, estimates={**share.estimates, measure: value})

        added = {
            path: {block: add(share, table[path][block]) for block, share in shares.items()}
            for path, shares in self.table.items()
        }
        return Costs(add(self.rest, rest), added)

    def _shares(self, blocks: Blocks) -> list[Share]:
        return [self.rest, *(shares[blocks[path]] for path, shares in self.table.items())]


_EXACT: dict[str, Callable[[Costs, Blocks], float]] = {
    "fp32": Costs.bytes,
    "parameters": Costs.parameters,
    "macs": Costs.macs,
    "peak": Costs.peak_activation_bytes,
}


def costs(space: Space, *, latency: bool | Latencies = False, threads: int = 1) -> Costs:
    """What each block costs at each place, measured on one network per block that has it wherever it fits.

    Costs one forward pass of batch 1 per block. ``latency`` times them too (see `measure_latencies`), or is what an
    earlier run measured. MoonshineError if what is no place costs differently in two of the networks.
    """
    if isinstance(latency, bool):
        times = measure_latencies(space, threads=threads) if latency else None
    else:
        times = latency
    rest: Share | None = None
    table: dict[str, dict[str, Share]] = {path: {} for path in space.places}
    for block in space.blocks:
        chosen = space.uniform(block)
        shares = _shares(space, chosen)
        found = shares.pop("")
        if rest and replace(found, peak_activation_bytes=rest.peak_activation_bytes) != rest:
            raise MoonshineError(
                f"{space.structure.network}: with {block} at {', '.join(chosen)} its other layers cost "
                f"{found.parameters} parameters and {found.macs} MACs, with {space.blocks[0]} "
                f"{rest.parameters} and {rest.macs}; allowed: networks that differ at their places only"
            )
        peak = max(share.peak_activation_bytes for share in (found, rest or found))
        rest = replace(found, peak_activation_bytes=peak)
        for path in chosen:
            table[path][block] = shares[path]
    assert rest is not None  # a space has a block
    ordered = {path: {block: table[path][block] for block in space.fitting[path]} for path in space.places}
    known = Costs(rest, ordered)
    if not times:
        return known
    if times.unreliable:
        logger.warning(
            "the latency of %s %s", ", ".join(times.unreliable), unreliable(max(times.unreliable.values()))
        )
    return known.with_estimate("latency", times.rest_ms, times.table)


@dataclass
class _Tally:
    parameters: int = 0
    stored: list[Stored] = field(default_factory=list)


def _shares(space: Space, blocks: Blocks) -> dict[str, Share]:
    """Path -> its share in the network with these blocks; ``""`` is what is no place."""
    with torch.device("meta"):
        network = space.build(blocks)
    tallies = {path: _Tally() for path in ("", *space.places)}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            tallies[_owner(name, tallies)].parameters += parameter.numel()
    tensors = {k: v for k, v in network.state_dict(keep_vars=True).items() if isinstance(v, Tensor)}
    for row in stored(tensors):
        tallies[_owner(row.name, tallies)].stored.append(row)
    measured = parts(network, space.input_shape, space.places)
    return {
        path: Share(
            tally.parameters,
            measured[path].macs,
            measured[path].peak_activation_bytes,
            tuple(tally.stored),
        )
        for path, tally in tallies.items()
    }


def _owner(name: str, tallies: Mapping[str, _Tally]) -> str:
    """The place that a tensor belongs to, by its path."""
    path = name
    while path not in tallies:
        path = path.rpartition(".")[0]
    return path
