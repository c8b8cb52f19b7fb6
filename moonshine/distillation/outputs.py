"""Outputs of a network that terms of a loss need: logits, attention maps, features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from moonshine.distillation.block_fit import run_to
from moonshine.distillation.taps import overwritten, record
from moonshine.errors import MoonshineError
from moonshine.substitution.watching import zero_image
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
    """What is needed of a network: logits, attention maps, features by the path of their module, input gradients."""

    logits: bool = False
    maps: tuple[MapOf, ...] = ()
    features: tuple[str, ...] = ()
    input_gradient: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.logits or other.logits,
            tuple(dict.fromkeys(self.maps + other.maps)),
            tuple(dict.fromkeys(self.features + other.features)),
            self.input_gradient or other.input_gradient,
        )

    def is_within(self, other: Needs) -> bool:
        """Whether what ``other`` asks for has all of this."""
        pairs = ((self.maps, other.maps), (self.features, other.features))
        has_rest = self.logits <= other.logits and self.input_gradient <= other.input_gradient
        return has_rest and all(set(own) <= set(theirs) for own, theirs in pairs)

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
    input_gradient: Tensor | None = None


Read = Callable[[nn.Module, Batch, Needs], Outputs]
"""Runs a network, or a compiled or wrapped form of it, on a batch."""

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
        if (kind, p, activation.device.type) == ("mean", 2, "cpu") and not torch.compiler.is_compiling():
            energy = _mean_of_squares(activation)
        else:
            values = at_least_fp32(activation)
            energy = MAP_KINDS[kind](values.square() if p == 2 else values.abs().pow(p))
        return F.normalize(energy.flatten(1), dim=1).view(energy.shape)


class _MeanOfSquares(torch.autograd.Function):
    """Mean over channels of the squares of an activation, a few images at a time.

    The bits of value and gradient are those of ``at_least_fp32(activation).square().mean(1)``, which on a CPU takes
    three times as long: what it computes on the way does not stay in the cache.
    """

    @staticmethod
    def forward(context: Any, activation: Tensor) -> Tensor:
        context.save_for_backward(activation)
        images, _, height, width = activation.shape
        means = at_least_fp32(activation.new_empty(0)).new_empty(images, height, width)
        for values, mean in _in_parts(activation, means):
            torch.mean(at_least_fp32(values).square(), 1, out=mean)
        return means

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (activation,) = context.saved_tensors
        found = torch.empty_like(activation)
        factors = (gradient / activation.shape[1] * 2).unsqueeze(1)
        for values, factor, part in _in_parts(activation, factors, found):
            if part.dtype == factor.dtype:
                torch.mul(values, factor, out=part)
            else:
                part.copy_(at_least_fp32(values).mul_(factor))
        return found


def _in_parts(*batches: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield as many images of each batch at a time as take half a megabyte of the first one in fp32."""
    count = max(1, 2**17 // max(1, batches[0].shape[1:].numel()))
    return zip(*(batch.split(count) for batch in batches), strict=True)


_mean_of_squares: Callable[[Tensor], Tensor] = _MeanOfSquares.apply


MAP_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda powers: powers.mean(dim=1),
    "sum": lambda powers: powers.sum(dim=1),
    "max": lambda powers: powers.amax(dim=1),
}
"""Kind of attention map -> what it makes of the powers of an activation, (N, C, H, W) -> (N, H, W)."""


def _with_input_gradient(forward: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of images, and the gradient of the sum of their cross-entropies with respect to each, (N, C, H, W).

    In fp32, whatever the autocast. Both can be differentiated once more where gradients are enabled. In training mode
    batch norm lets each image's loss depend on the others, so that its gradient is not of its own loss alone.
    """
    if labels.ndim != 1:
        raise MoonshineError(f"input gradients: found labels {tuple(labels.shape)}; allowed: one per image")
    trains = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        inputs = images.detach().requires_grad_()
        logits = at_least_fp32(forward(inputs.clone()))  # a network may write into its input
        loss = F.cross_entropy(logits, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs, create_graph=trains)
    return logits, gradient


@contextmanager
def reading(
    network: nn.Module, needs: Needs, execution: Execution | None, input_shape: tuple[int, ...]
) -> Iterator[Read]:
    """Within the context, what is yielded reads any part of ``needs`` in forward passes of ``network``.

    The network is placed as ``execution`` says, in torch's own memory layout where it runs in no other; without one it
    and the images stay as they are. A pass ends at the last feature where nothing else is asked for, and later layers
    see nothing of it.
    MoonshineError for a path that the network does not have.
    """
    copied: set[str] = set()
    with record(network, needs.paths, copied) as recorded:
        layout = execution.suiting(network, input_shape).memory_format if execution else None
        copied |= overwritten(network, needs.paths, zero_image(network, input_shape))

        def read(forward: nn.Module, batch: Batch, needs: Needs) -> Outputs:
            images = batch.images.contiguous(memory_format=layout) if layout else batch.images
            logits = gradient = None
            found = recorded
            if needs.input_gradient:
                logits, gradient = _with_input_gradient(forward, images, batch.labels)
            elif needs.logits or needs.maps:
                # once for all terms, so that their gradients add up in fp32 too
                logits = at_least_fp32(forward(images))
            else:
                layers = [network.get_submodule(path) for path in needs.features]
                passed = run_to(network, [images], {}, layers)
                found = dict(zip(needs.features, (output for _, output in passed), strict=True))
            return Outputs(
                logits,
                {each: attention_map(found[each.path], each.kind, each.p) for each in needs.maps},
                {path: found[path] for path in needs.features},
                gradient,
            )

        yield read
