"""Warm start: a student starts from the weights it shares with its teacher and from blocks fitted to the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from moonshine.blocks.notation import Block
from moonshine.blocks.registry import parse_block
from moonshine.config.networks import WarmStart
from moonshine.distillation.block_fit import RecordedCall, fit, run_to
from moonshine.distillation.least_squares import is_solvable
from moonshine.distillation.warm_places import FittedPlace, find_fitted_place
from moonshine.errors import MoonshineError
from moonshine.networks.passes import evaluating

RECORDED = 2**26
"""Most floats of one place's inputs and outputs in memory (256 MiB), unless `HELD_OUT` images need more."""

HELD_OUT = 4
"""One image in this many is held out from the fit, to measure it."""

_BATCH = 128
PIXELS = _BATCH * 224 * 224
"""Most pixels of a batch (12 images of 512x1024), unless `HELD_OUT` images have more."""


@dataclass(frozen=True)
class Fit:
    """||student's output - teacher's|| / ||teacher's|| at a place, before and after its fit, on held-out images."""

    before: float
    after: float


@dataclass(frozen=True)
class WarmStarted:
    """Names of the copied tensors, and the fit of each cheap block by its path."""

    copied: tuple[str, ...]
    fits: dict[str, Fit]

    def __str__(self) -> str:
        fits = ", ".join(f"{path} {fit.before:.3f} to {fit.after:.3f}" for path, fit in self.fits.items())
        return f"{len(self.copied)} tensors copied; relative error of {fits or 'no block'}"


def batch_size(input_shape: Sequence[int]) -> int:
    """Return the number of images of ``input_shape`` (channels, height, width) in a batch for `warm_start`."""
    height, width = input_shape[1:]
    return min(_BATCH, max(HELD_OUT, PIXELS // (height * width)))


def warm_start(
    student: nn.Module,
    teacher: nn.Module,
    blocks: Mapping[str, str | Block],
    loader_batches: Sequence[Tensor],
    warm: WarmStart,
) -> WarmStarted:
    """Copy the teacher's shared weights into a student and fit its cheap blocks to the teacher, in place.

    Tensors of equal name and shape are copied, except where they stand for convolutions of the teacher's. Then each
    cheap block is fitted by `moonshine.distillation.block_fit.fit` to the teacher's output of its place before the
    residual sum, on the teacher's input of it. One place at a time: memory does not grow with the network.

    ``blocks`` maps places of the student to blocks, S where it has the teacher's own. ``loader_batches`` are normalised
    images (n, channels, height, width); the first ``warm.batches`` of them are used. Draws no random numbers. Both
    networks run in eval mode and keep their own; of the teacher nothing changes.
    MoonshineError, before anything changes, for a cheap block whose place the teacher lacks or has in other widths, for
    one that least squares cannot solve, and where no batch has two images.
    """
    batches = [images for images in loader_batches[: warm.batches] if len(images) > 1]
    if not batches:
        raise MoonshineError("warm_start: found no batch of images; allowed: at least one of two images")
    cheap = {path: block for path, text in blocks.items() if (block := parse_block(text)).kind != "S"}
    places = [find_fitted_place(student, teacher, path, block) for path, block in cheap.items()]
    if warm.fit == "least-squares":
        for place in places:
            if not any(is_solvable(layer) for layer, _ in place.part.layer_pairs):
                raise MoonshineError(
                    f"warm_start.fit: least-squares solves the 1x1 convolution that ends a block, and "
                    f"{cheap[place.path]} at {place.path} ends in none; allowed: steps"
                )
    copied = _copy(student, teacher, [path for place in places for path in place.new])
    fits = {}
    with evaluating(student), evaluating(teacher):
        for place in places:
            calls, held_out = _record(teacher, place, batches)
            fits[place.path] = Fit(*fit(place.part, calls, held_out, warm.steps or 0))
    return WarmStarted(copied, fits)


@torch.no_grad()
def _copy(student: nn.Module, teacher: nn.Module, new: Sequence[str]) -> tuple[str, ...]:
    """Copy the shared tensors outside the paths in ``new``; return their names."""
    copied: list[str] = []
    teacher_modules = dict(teacher.named_modules())
    for path, layer in student.named_modules():
        if path not in teacher_modules or any(path == one or path.startswith(f"{one}.") for one in new):
            continue
        own, other = _tensors(layer), _tensors(teacher_modules[path])
        shared = {
            name: tensor
            for name, tensor in own.items()
            if name in other and other[name].shape == tensor.shape
        }
        # A batch norm's counter has the same shape at any width: it is copied only together with other tensors.
        if len(shared) == len(own) or any(tensor.dim() for tensor in shared.values()):
            for name, tensor in shared.items():
                tensor.copy_(other[name])
            copied += [f"{path}.{name}".lstrip(".") for name in shared]
    return tuple(copied)


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Return a layer's own parameters and buffers."""
    return {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}


def _record(
    teacher: nn.Module, place: FittedPlace, batches: Sequence[Tensor]
) -> tuple[list[RecordedCall], list[RecordedCall]]:
    """Record the teacher's calls of a place, on the images to fit to and on those held out.

    For large maps only the first images of the first batches, so that each batch can hold one out.
    """
    (one,) = _calls(teacher, place, [batches[0][:1]])
    floats = sum(
        leaf.numel() for leaf in tree_leaves((one.args, one.kwargs, one.targets)) if isinstance(leaf, Tensor)
    )
    total = max(HELD_OUT, RECORDED // floats)
    batches = batches[: total // HELD_OUT]
    kept = [images[: total // len(batches)] for images in batches]
    fitted = [images[torch.arange(len(images)) % HELD_OUT != HELD_OUT - 1] for images in kept]
    held_out = [images[HELD_OUT - 1 :: HELD_OUT] for images in kept if len(images) >= HELD_OUT]
    calls = _calls(teacher, place, fitted)
    return calls, _calls(teacher, place, held_out) or calls


@torch.no_grad()
def _calls(teacher: nn.Module, place: FittedPlace, batches: Sequence[Tensor]) -> list[RecordedCall]:
    student_device, teacher_device = (
        next(module.parameters()).device for module in (place.part.module, teacher)
    )
    where = teacher.get_submodule(place.path)
    wanted = [conv for _, conv in place.part.layer_pairs]
    seen: list[Any] = []

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        # Cloned, since the place may write into its input.
        seen.append(
            tree_map_only(Tensor, lambda tensor: tensor.to(student_device, copy=True), (args, kwargs))
        )

    calls = []
    for images in batches:
        seen.clear()
        with where.register_forward_pre_hook(note, with_kwargs=True):
            maps = run_to(teacher, [images.to(teacher_device, copy=True)], {}, wanted)
        if len(maps) != len(wanted):
            raise MoonshineError(f"warm_start: {place.path} takes no part in the teacher's forward pass")
        args, kwargs = seen[0]
        calls.append(RecordedCall(args, kwargs, tuple(output.to(student_device) for _, output in maps)))
    return calls
