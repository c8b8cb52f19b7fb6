"""Layers of a pretrained network that training leaves as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from moonshine.errors import MoonshineError, first_few
from moonshine.substitution.patterns import covers

STEM = "stem"
"""Stands for every layer before the first place of a block."""


def frozen_layers(
    network: nn.Module, freeze: str | Sequence[str], places: Collection[str], drawn: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the paths of the layers, those with tensors of their own, that patterns of ``freeze``, or `STEM`, cover.

    ``places`` are where blocks can go, by which the stem is known. The layers of the tensors ``drawn`` are never among
    them. MoonshineError for a pattern that covers none, and if nothing is left to train.
    """
    new = {name.rpartition(".")[0] for name in drawn}
    layers = [
        path
        for path, layer in network.named_modules()
        if [*layer.parameters(recurse=False), *layer.buffers(recurse=False)] and path not in new
    ]
    inside = next(
        (position for position, path in enumerate(layers) if any(covers(place, path) for place in places)), 0
    )
    chosen: set[str] = set()
    for pattern in (freeze,) if isinstance(freeze, str) else freeze:
        found = layers[:inside] if pattern == STEM else [path for path in layers if covers(pattern, path)]
        if not found:
            raise MoonshineError(
                f"teacher.finetune.freeze: {pattern!r} covers no layer; allowed: {STEM}, or patterns of "
                f"{first_few(layers)}"
            )
        chosen.update(found)
    if not any(
        path not in chosen for path, layer in network.named_modules() if [*layer.parameters(recurse=False)]
    ):
        raise MoonshineError(
            f"teacher.finetune.freeze: {freeze!r} leaves nothing to train; allowed: to leave finetune out"
        )
    return tuple(path for path in layers if path in chosen)


@contextmanager
def frozen(network: nn.Module, layers: Collection[str]) -> Iterator[None]:
    """Keep these layers as they are while ``network`` trains in this context.

    Their parameters get no gradient, and they run as in evaluation: batch norms keep their statistics.
    """
    kept = [network.get_submodule(path) for path in layers]
    parameters = [
        parameter
        for layer in kept
        for parameter in layer.parameters(recurse=False)
        if parameter.requires_grad
    ]

    def as_in_evaluation(*_: object) -> None:
        for layer in kept:
            layer.training = False

    hook = network.register_forward_pre_hook(as_in_evaluation)
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        hook.remove()
        for parameter in parameters:
            parameter.requires_grad_()
