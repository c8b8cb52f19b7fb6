"""Fisher potential: the score of an untrained network, computed on one minibatch.

Source: Turner, Crowley, O'Boyle, Storkey, Gray, "BlockSwap: Fisher-guided Block Substitution for Network Compression on
a Budget", ICLR 2020.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.networks.passes import choose_memory_format
from moonshine.progress import ReportProgress
from moonshine.search.space import Space
from moonshine.substitution.replacement import end_of


class Potentials:
    """Fisher potentials of networks of a space on one minibatch; each initialisation is computed once.

    Initialisation i draws its weights with ``seed + i`` from torch's global generator. Networks are built on the CPU,
    in channels last where they run so (measured: 1.6 times as fast on a CPU, see benchmarks/search.py), and run where
    the images are.
    """

    def __init__(
        self,
        space: Space,
        networks: Sequence[Mapping[str, str]],
        images: Tensor,
        labels: Tensor,
        seed: int,
        progress: ReportProgress | None = None,
    ) -> None:
        self._space = space
        self._networks = networks
        self._images = images
        self._labels = labels
        self._seed = seed
        self._progress = progress
        self._known: dict[tuple[int, int], float] = {}
        self.expected = 0
        """Number that will be computed, for ``progress("networks scored", computed, expected)``."""

    def mean(self, index: int, initialisations: int) -> float:
        """Return the mean over the first initialisations of one network."""
        for number in range(initialisations):
            if (index, number) not in self._known:
                self._known[index, number] = self._compute(index, self._seed + number)
                if self._progress:
                    self._progress("networks scored", len(self._known), max(self.expected, len(self._known)))
        return sum(self._known[index, number] for number in range(initialisations)) / initialisations

    def _compute(self, index: int, seed: int) -> float:
        torch.manual_seed(seed)
        network = self._space.build(self._networks[index])
        network = network.to(self._images.device)
        self._images = self._images.contiguous(memory_format=choose_memory_format(network, self._images))
        return fisher_potential(network, self._images, self._labels, self._space.places)


def fisher_potential(network: nn.Module, images: Tensor, labels: Tensor, paths: Sequence[str]) -> float:
    """Return the sum of `per_place` over the places."""
    return sum(per_place(network, images, labels, paths).values())


def per_place(network: nn.Module, images: Tensor, labels: Tensor, paths: Sequence[str]) -> dict[str, float]:
    """Return, by path, the sum over channels of 1/(2N) sum over images of (sum over pixels of activation x gradient)^2.

    Activation and gradient are at the output of the block there, before the residual sum; the
    loss is the mean cross-entropy of ``images`` (N, channels, height, width) with ``labels``, in train mode. No
    gradient of a weight is computed. The network's modes and flags are restored afterwards; its batch norm statistics
    are updated by the images. MoonshineError for a potential that is not finite, and if the logits depend on no place.
    """
    with _as_in_training(network), torch.enable_grad():
        found = _attempt(network, images, labels, paths, copied=False)
        if found is None:
            found = _attempt(network, images, labels, paths, copied=True)
    assert found is not None  # nothing writes into a copy
    totals = dict(zip(found, torch.stack(list(found.values())).tolist(), strict=True))
    if wrong := [f"{value} at {path}" for path, value in totals.items() if not math.isfinite(value)]:
        raise MoonshineError(f"Fisher potential: found {', '.join(wrong)}; allowed: finite numbers")
    return totals


def _attempt(
    network: nn.Module, images: Tensor, labels: Tensor, paths: Sequence[str], copied: bool
) -> dict[str, Tensor] | None:
    """Return the sums by path; None if the network overwrote an activation in place, which ``copied`` ones survive."""
    sums = {path: torch.zeros((), device=images.device) for path in paths}
    versions: list[tuple[Tensor, int]] = []

    def watch(path: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def hook(module: nn.Module, inputs: Any, activation: Tensor) -> Tensor:
            # nothing before the first place needs a gradient, and in place no leaf may change
            first = not activation.requires_grad
            output = activation.requires_grad_().clone() if first or copied else activation
            output.register_hook(partial(add, path, activation.detach()))
            versions.append((activation, activation._version))
            return output

        return hook

    def add(path: str, activation: Tensor, gradient: Tensor) -> None:
        products = (activation * gradient).sum(dim=(2, 3))
        sums[path] += products.square().sum() / (2 * len(products))

    with ExitStack() as hooks:
        for path in paths:
            hooks.enter_context(end_of(network, path).register_forward_hook(watch(path)))
        # a copy: other networks are scored on these images too, and a network may write into its input
        loss = F.cross_entropy(network(images.clone()).float(), labels)
    if any(activation._version != version for activation, version in versions):
        return None
    if not loss.requires_grad:
        raise MoonshineError(f"Fisher potential: the logits do not depend on {', '.join(paths)}")
    loss.backward()
    return sums


@contextmanager
def _as_in_training(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.train().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter in wanted:
            parameter.requires_grad_()
