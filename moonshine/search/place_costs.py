"""Cost of each block at each place, so that the cost of a candidate is known without building it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from moonshine.blocks.layers import GeneratedConv
from moonshine.costs.budgets import MAXIMA
from moonshine.costs.file_sizes import FRAME_BYTES, data_bytes, most_header_bytes, untied
from moonshine.costs.latency import unreliable
from moonshine.costs.metering import module_costs
from moonshine.errors import MoonshineError
from moonshine.search.place_latency import Latencies
from moonshine.search.space import Mixture, Space

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlaceCost:
    """Contribution of a block at one place, or of everything outside the places, to the costs of its network."""

    parameters: int
    macs: int
    peak_activation_bytes: int  # of all live activations while it runs
    tensors: int = 0
    data_bytes: int = 0  # of its tensors in fp32
    folded: int = (
        0  # weights that a graph stores in place of the factors they are generated from, less those factors
    )
    estimates: Mapping[str, float] = field(default_factory=dict)  # by measure: sizes of files, latency

    def of(self, measure: str) -> float:
        """Return its value of a measure of `moonshine.costs.budgets.MEASURES`; MoonshineError for one unknown here."""
        values = {
            "parameters": self.parameters,
            "macs": self.macs,
            "peak": self.peak_activation_bytes,
            **self.estimates,
        }
        if measure not in values:
            raise MoonshineError(
                f"costs: found no {measure}; allowed: {', '.join(values)}, or an estimate of it"
            )
        return values[measure]


@dataclass(frozen=True)
class SpaceCosts:
    """Costs of every network of a space, from those at its places; measures are those of `PlaceCost.of`.

    Parameters, MACs and peak activation memory are those that `moonshine.costs.cost.cost` finds in the built network.
    The fp32 file is at most as large as its estimate, which exceeds it by a few bytes per tensor.
    """

    rest: PlaceCost
    table: Mapping[str, Mapping[str, PlaceCost]]  # path -> block -> cost

    def of(self, measure: str, blocks: Mixture) -> float:
        """Return a measure of the network with these blocks: the maximum over its places, or the sum."""
        values = [self.rest.of(measure), *(row[blocks[path]].of(measure) for path, row in self.table.items())]
        return max(values) if measure in MAXIMA else sum(values)

    def extreme(self, measure: str, choose: Callable[..., str] = min) -> dict[str, str]:
        """Return the network with the smallest value of a measure (or the largest, with ``choose=max``)."""
        return {
            path: choose(row, key=lambda block, row=row: row[block].of(measure))
            for path, row in self.table.items()
        }

    def reachable(self, measure: str) -> tuple[float, float]:
        """Return the smallest and the largest value of a measure among the networks of the space."""
        return self.of(measure, self.extreme(measure, min)), self.of(measure, self.extreme(measure, max))

    def with_estimate(
        self, measure: str, rest: float, table: Mapping[str, Mapping[str, float]]
    ) -> SpaceCosts:
        """Return these costs with one more measure, from its values for the rest and for the places."""

        def add(cost: PlaceCost, value: float) -> PlaceCost:
            return replace(cost, estimates={**cost.estimates, measure: value})

        added = {
            path: {block: add(cost, table[path][block]) for block, cost in row.items()}
            for path, row in self.table.items()
        }
        return SpaceCosts(add(self.rest, rest), added)

    def keeping(self, wanted: Callable[[PlaceCost, Mapping[str, PlaceCost]], bool]) -> SpaceCosts:
        """Return these costs with only the blocks at each place for which ``wanted(cost, row of the place)`` holds."""
        table = {
            path: {block: cost for block, cost in row.items() if wanted(cost, row)}
            for path, row in self.table.items()
        }
        return SpaceCosts(self.rest, table)


def place_costs(space: Space, latencies: Latencies | None = None) -> SpaceCosts:
    """Measure what each block costs at each place, on one network per block that has it wherever it fits.

    Takes one forward pass of batch 1 per block; ``latencies`` were measured before. MoonshineError if the layers
    outside the places have different costs in two of the networks.
    """
    rest: PlaceCost | None = None
    table: dict[str, dict[str, PlaceCost]] = {path: {} for path in space.places}
    for block in space.blocks:
        chosen = space.uniform(block)
        found = _measure(space, chosen)
        others = found.pop("")
        if rest and replace(others, peak_activation_bytes=rest.peak_activation_bytes) != rest:
            raise MoonshineError(
                f"{space.structure.network}: with {block} at {', '.join(chosen)} its other layers cost "
                f"{others.parameters} parameters and {others.macs} MACs, with {space.blocks[0]} "
                f"{rest.parameters} and {rest.macs}; allowed: networks that differ at their places only"
            )
        peak = max(cost.peak_activation_bytes for cost in (others, rest or others))
        rest = replace(others, peak_activation_bytes=peak)
        for path in chosen:
            table[path][block] = found[path]
    assert rest is not None  # a space has a block
    ordered = {path: {block: table[path][block] for block in space.fitting[path]} for path in space.places}
    known = SpaceCosts(rest, ordered)
    return with_latencies(known, latencies) if latencies else known


def with_latencies(known: SpaceCosts, latencies: Latencies) -> SpaceCosts:
    """Return the costs with latencies, and log the unreliable ones."""
    if latencies.unreliable:
        spread = max(latencies.unreliable.values())
        logger.warning("the latency of %s %s", ", ".join(latencies.unreliable), unreliable(spread))
    return known.with_estimate("latency", latencies.rest_ms, latencies.table)


def _measure(space: Space, blocks: Mixture) -> dict[str, PlaceCost]:
    """Return path -> cost in the network with these blocks; ``""`` is everything outside the places."""
    with torch.device("meta"):
        network = space.build(blocks)
    tensors = {
        name: value for name, value in network.state_dict(keep_vars=True).items() if isinstance(value, Tensor)
    }
    owned: dict[str, dict[str, Tensor]] = {path: {} for path in ("", *space.places)}

    def owner(name: str) -> str:
        while name not in owned:
            name = name.rpartition(".")[0]
        return name

    for name, tensor in untied(tensors).items():
        owned[owner(name)][name] = tensor
    parameters, folded = dict.fromkeys(owned, 0), dict.fromkeys(owned, 0)
    for name, layer in network.named_modules():
        if isinstance(layer, GeneratedConv):
            folded[owner(name)] += layer.folded
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            parameters[owner(name)] += parameter.numel()
    measured = module_costs(network, space.input_shape, space.places)
    return {
        path: PlaceCost(
            parameters[path],
            measured[path].macs,
            measured[path].peak_activation_bytes,
            len(own),
            data_bytes(own),
            folded[path],
            {"fp32": data_bytes(own) + most_header_bytes(own) + (0 if path else FRAME_BYTES)},
        )
        for path, own in owned.items()
    }
