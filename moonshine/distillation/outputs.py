"""Outputs of a network that terms of a loss need: logits, attention maps, features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moonshine.distillation.block_fit import run_to
from moonshine.distillation.taps import overwritten, record
from moonshine.errors import MoonshineError
from moonshine.training.execution import Execution
from moonshine.training.labels import at_least_fp32
from moonshine.training.objective import Batch


class MapOf(NamedTuple):
    """The attention map of a module's output, by its path; ``kind`` and ``p`` as in `attention_map`."""

    path: str
    kind: str = "mean"
    p: float = 2.0


@dataclass(frozen=True)
class Needs:
    """What is needed of a forward pass: logits, attention maps, and features by the path of their module."""

    logits: bool = False
    maps: tuple[MapOf, ...] = ()
    features: tuple[str, ...] = ()

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.logits or other.logits,
            tuple(dict.fromkeys(self.maps + other.maps)),
            tuple(dict.fromkeys(self.features + other.features)),
        )

    def is_within(self, other: Needs) -> bool:
        """Whether what ``other`` asks for has all of this."""
        pairs = ((self.maps, other.maps), (self.features, other.features))
        return self.logits <= other.logits and all(set(own) <= set(theirs) for own, theirs in pairs)

    @property
    def paths(self) -> tuple[str, ...]:
        """Modules whose output is read."""
        return tuple(dict.fromkeys([*(each.path for each in self.maps), *self.features]))


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gave, as `Needs` names it; logits in fp32 at least, None where it ended before them."""

    logits: Tensor | None = None
    maps: Mapping[MapOf, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)


Read = Callable[[nn.Module, Tensor, Needs], Outputs]
"""Runs a network, or a compiled or wrapped form of it, on images (N, C, H, W)."""

TeacherOutputs = Callable[[Batch, Needs], Outputs]
"""Outputs of the teacher, without gradients. A batch says at which epoch and step it comes."""


def rounded(outputs: Outputs) -> Outputs:
    """Outputs in fp32, with logits and attention maps as half precision has them; a value that overflows there stays.

    Always done to the teacher's, so that a training has the same bits where they are kept in half precision.
    """

    def in_half(values: Tensor) -> Tensor:
        half = values.half().float()
        return torch.where(half.isinf(), values.float(), half).contiguous()

    return replace(
        outputs,
        logits=None if outputs.logits is None else in_half(outputs.logits),
        maps={each: in_half(values) for each, values in outputs.maps.items()},
    )


def attention_map(activation: Tensor, kind: str = "mean", p: float = 2.0) -> Tensor:
    """Where a network looks: the energy of an activation at each pixel, (N, C, H, W) -> (N, H, W).

    ``f(A) = m / ||m||_2`` for each sample, with m the mean, the sum or the maximum over channels of ``|A|^p``, p >= 1.
    Mean and sum are the same map but for rounding. Channels that share the maximum share its gradient. A norm below
    1e-12 counts as that: an activation that is zero everywhere gives a map of zeros with zero gradient. In fp32 at
    least.
    Source: Zagoruyko & Komodakis (2017), section 3.1: F_sum^p and F_max^p; the released code's ``at`` in funcs.py
    has the mean and p = 2.
    """
    if activation.ndim != 4:
        raise MoonshineError(
            f"attention map: the activation has shape {tuple(activation.shape)}; allowed: (N, C, H, W)"
        )
    with torch.autocast(activation.device.type, enabled=False):
        values = at_least_fp32(activation)
        energy = MAP_KINDS[kind](values.square() if p == 2 else values.abs().pow(p))
        return F.normalize(energy.flatten(1), dim=1).view(energy.shape)


MAP_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda powers: powers.mean(dim=1),
    "sum": lambda powers: powers.sum(dim=1),
    "max": lambda powers: powers.amax(dim=1),
}
"""Kind of attention map -> what it makes of the powers of an activation, (N, C, H, W) -> (N, H, W)."""


@contextmanager
def reading(
    network: nn.Module, needs: Needs, execution: Execution, input_shape: tuple[int, ...]
) -> Iterator[Read]:
    """Within the context, what is yielded reads any part of ``needs`` in forward passes of ``network``.

    The network is placed as ``execution`` says, in torch's own memory layout where it runs in no other. A pass ends
    at the last feature where nothing else is asked for, and later layers see nothing of it.
    MoonshineError for a path that the network does not have.
    """
    copied: set[str] = set()
    with record(network, needs.paths, copied) as recorded:
        layout = execution.suiting(network, input_shape).memory_format
        copied |= overwritten(network, needs.paths, torch.zeros(1, *input_shape, device=execution.device))

        def read(forward: nn.Module, images: Tensor, needs: Needs) -> Outputs:
            images = images.contiguous(memory_format=layout)
            if needs.logits or needs.maps:
                # once for all terms, so that their gradients add up in fp32 too
                logits, found = at_least_fp32(forward(images)), recorded
            else:
                layers = [network.get_submodule(path) for path in needs.features]
                passed = run_to(network, [images], {}, layers)
                logits, found = None, dict(zip(needs.features, (output for _, output in passed), strict=True))
            return Outputs(
                logits,
                {each: attention_map(found[each.path], each.kind, each.p) for each in needs.maps},
                {path: found[path] for path in needs.features},
            )

        yield read
