"""Fitting one cheap block to the teacher's output at the same place, from recorded inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.adam import adam
from torch.utils._pytree import tree_map_only

from moonshine.distillation.least_squares import is_solvable, moments, solve

LEARNING_RATE = 1e-2

LayerPair = tuple[nn.Module, nn.Module]
"""A layer of the student, and the layer of the teacher whose output it should reproduce."""

FitState = list[dict[str, Tensor]]


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """Arguments of a place in a forward pass of the teacher, and the output of the teacher's layer of each pair."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    targets: tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class Part:
    """Fitted part of a place: the module that is called, its cheap layers, and its layer pairs in running order."""

    module: nn.Module
    layers: tuple[nn.Module, ...]
    layer_pairs: tuple[LayerPair, ...]


def fit(
    part: Part, calls: Sequence[RecordedCall], held_out: Sequence[RecordedCall], steps: int = 0
) -> tuple[float, float]:
    """Fit a place, in place; return its last layer's relative error before and after, on the calls held out.

    The module is in eval mode. Its cheap layers' batch norms get the statistics of ``calls``; then each pair's
    convolution, if it is a 1x1, is solved by least squares; then ``steps`` steps of Adam update all parameters of the
    layers, and the last convolution is solved again. Both are kept only if they lower the error.
    """
    _estimate_statistics(part, calls, len(part.layer_pairs) - 1)
    start = best = _error(part, held_out)
    kept = _state(part)
    for position in range(len(part.layer_pairs)):
        _estimate_statistics(part, calls, position)
        _solve(part, calls, held_out, position)
    if (error := _error(part, held_out)) < best:
        best, kept = error, _state(part)
    if steps:
        _step(part, calls, steps)
        _estimate_statistics(part, calls, len(part.layer_pairs) - 1)
        _solve(part, calls, held_out, len(part.layer_pairs) - 1)
        if (error := _error(part, held_out)) < best:
            best, kept = error, _state(part)
    for layer, state in zip(part.layers, kept, strict=True):
        layer.load_state_dict(state)
    return start, best


def run_to(
    module: nn.Module, args: Iterable[Any], kwargs: Mapping[str, Any], layers: Sequence[nn.Module]
) -> list[tuple[Tensor, Tensor]]:
    """Return input and output of each layer in a forward pass that ends at the last; fewer if one does not run."""
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.setdefault(layer, (inputs[0], output.clone()))  # what follows may write into the output
        if len(seen) == len(layers):
            raise _Reached

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        module(*args, **kwargs)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[layer] for layer in layers if layer in seen]


class _Reached(Exception):
    """Raised to end a forward pass after the last layer of interest."""


def _run(part: Part, call: RecordedCall, position: int) -> tuple[Tensor, Tensor]:
    """Return input and output of a pair's convolution; a module that writes into its input writes into a copy."""
    args, kwargs = tree_map_only(Tensor, Tensor.clone, (call.args, call.kwargs))
    ((maps, output),) = run_to(part.module, args, kwargs, [part.layer_pairs[position][0]])
    return maps, output


def _state(part: Part) -> FitState:
    return [{name: tensor.clone() for name, tensor in layer.state_dict().items()} for layer in part.layers]


@torch.no_grad()
def _estimate_statistics(part: Part, calls: Sequence[RecordedCall], position: int) -> None:
    """Set the batch norms before a pair's layer to the mean statistics of the calls."""
    norms = [
        norm
        for layer in part.layers
        for norm in layer.modules()
        if isinstance(norm, _BatchNorm) and norm.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's way to say that all batches weigh the same
        norm.train()
    for call in calls:
        _run(part, call, position)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


@torch.no_grad()
def _error(part: Part, calls: Sequence[RecordedCall]) -> float:
    """Return ||output - target|| / ||target|| of the last layer pair; infinite if one of them is not finite."""
    difference = power = 0.0
    for call in calls:
        _, output = _run(part, call, -1)
        target = call.targets[-1].double()
        difference += (output.double() - target).square().sum().item()
        power += target.square().sum().item()
    if not math.isfinite(difference + power):
        return math.inf
    return math.sqrt(difference / max(power, torch.finfo(torch.float64).tiny))


@torch.no_grad()
def _solve(
    part: Part, calls: Sequence[RecordedCall], held_out: Sequence[RecordedCall], position: int
) -> None:
    conv, _ = part.layer_pairs[position]
    if is_solvable(conv):
        fitted, held = (
            moments(conv, ((_run(part, call, position)[0], call.targets[position]) for call in some))
            for some in (calls, held_out)
        )
        solve(conv, fitted, held)


def _step(part: Part, calls: Sequence[RecordedCall], steps: int) -> None:
    """Minimise the last layer's mean squared error by Adam with a cosine schedule, one call per step.

    Batch norms are in training mode. Functional Adam, for the reason given in `moonshine.training.updates.optimizer`.
    """
    weights: list[Tensor] = [
        weight for layer in part.layers for weight in layer.parameters() if weight.requires_grad
    ]
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    counts = [torch.zeros(()) for _ in weights]
    for layer in part.layers:
        layer.train()
    for step in range(steps):
        call = calls[step % len(calls)]
        with torch.enable_grad():
            _, output = _run(part, call, -1)
            gradients = torch.autograd.grad(F.mse_loss(output, call.targets[-1]), weights)
        with torch.no_grad():
            rate = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2
            adam(
                weights,
                list(gradients),
                means,
                squares,
                [],
                counts,
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=rate,
                weight_decay=0,
                eps=1e-8,
                maximize=False,
            )
    for layer in part.layers:
        layer.eval()
