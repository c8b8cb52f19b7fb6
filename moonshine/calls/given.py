"""Arguments of the calls, checked before anything trains: sections of a study, two networks, a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from moonshine.config.errors import explain
from moonshine.config.methods import Method
from moonshine.costs.metering import checked_shape
from moonshine.data.batches import UNLABELLED
from moonshine.distillation.term import Pair
from moonshine.errors import MoonshineError, first_few
from moonshine.fields import Section
from moonshine.substitution.layout import lay_out
from moonshine.substitution.tap_discovery import check_taps, discover_taps, tap_sizes
from moonshine.substitution.watching import zero_pass

Given = TypeVar("Given", bound=Section)
WRAPPERS = (nn.parallel.DistributedDataParallel, nn.DataParallel)


def section(name: str, given: Any, schema: type[Given]) -> Given:
    """Return the section of a study called ``name``: as it is, or from a mapping as in ``params.yaml``."""
    check_types(**{name: (given, schema | Mapping)})
    if isinstance(given, schema):
        return given
    content = dict(given)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        said = (explain(dict(item), content, schema) for item in error.errors())
        raise MoonshineError("; ".join(f"{name}.{one}" for one in said)) from None


def check_types(**given: tuple[Any, Any]) -> None:
    """MoonshineError for an argument, its name -> (value, allowed type or union), of another type."""
    for name, (value, allowed) in given.items():
        if not isinstance(value, allowed):
            kinds = getattr(allowed, "__args__", (allowed,))
            raise MoonshineError(
                f"{name}: found a {type(value).__name__}; allowed: "
                + " or ".join(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
            )


def checked_pair(
    student: nn.Module,
    teacher: nn.Module,
    method: Method,
    input_shape: Sequence[int],
    taps: Sequence[str] | str | None,
) -> Pair:
    """Return the two networks with the taps that the method reads; ``"auto"`` or None: the teacher's, or discovered.

    MoonshineError for networks that share weights or are wrapped, that do not take an image of ``input_shape``
    (channels, height, width) or return probabilities or other logits than each other's, and for taps that are missing
    or differ in size.
    """
    networks = {"student": student, "teacher": teacher}
    for whose, network in networks.items():
        check_types(**{whose: (network, nn.Module)})
        if isinstance(network, WRAPPERS):
            raise MoonshineError(
                f"{whose}: found a {type(network).__name__}; allowed: the network in it (wrap the loss, which holds "
                "the student)"
            )
    owned = {id(tensor) for tensor in teacher.parameters()}
    if shared := [name for name, tensor in student.named_parameters() if id(tensor) in owned]:
        raise MoonshineError(
            f"student: shares {first_few(shared, 3)} with the teacher, which training would change; allowed: a network "
            "of its own, as moonshine.substitute and copy.deepcopy return"
        )
    shape = checked_image_shape(input_shape)
    found = {whose: logits_shape(whose, network, shape) for whose, network in networks.items()}
    of_layers_alone = all(each.reads_taps or each.names_layers for each in method.terms.values())
    if not of_layers_alone and found["student"] != found["teacher"]:
        raise MoonshineError(
            f"student: one image gives logits {found['student']}, and {found['teacher']} of the teacher; allowed: the "
            f"same, for {method.loss}"
        )
    if not any(each.reads_taps for each in method.terms.values()):
        return Pair(student, teacher, (), shape)
    if taps in (None, "auto"):
        taps = getattr(teacher, "taps", None) or discover_taps(teacher, shape, lay_out(teacher, shape))
    check_types(taps=(taps, list | tuple))
    check_taps(taps, tap_sizes(teacher, taps, shape), student, shape)
    return Pair(student, teacher, tuple(taps), shape)


def checked_image_shape(input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as a tuple; MoonshineError unless it is (channels, height, width)."""
    shape = checked_shape(input_shape)
    if len(shape) != 3:
        raise MoonshineError(f"input_shape: found {shape}; allowed: (channels, height, width)")
    return shape


def logits_shape(whose: str, network: nn.Module, input_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a network's logits for one image, (1, K) or (1, K, H, W); errors say ``whose`` it is."""
    try:
        logits = zero_pass(network, input_shape)
    except MoonshineError as error:
        raise MoonshineError(f"{whose}: {error}") from None
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        what = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise MoonshineError(
            f"{whose}: one image gives {what}; allowed: logits (1, K) or (1, K, H, W), in one tensor"
        )
    return tuple(logits.shape)


def check_batch(batch: Any, channels: int | None = None) -> tuple[Tensor, Tensor]:
    """Return images and labels of a batch; MoonshineError unless the images are floats (N, channels, H, W)."""
    parts = batch if isinstance(batch, list | tuple) else [batch]
    if len(parts) != 2 or not all(isinstance(part, Tensor) for part in parts):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise MoonshineError(f"batch: found {kinds}; allowed: (images, labels), two tensors")
    images, labels = parts
    if images.ndim != 4 or not images.is_floating_point() or channels not in (None, images.shape[1]):
        raise MoonshineError(
            f"images: found {tuple(images.shape)} of {images.dtype}; allowed: (N, {channels or 'channels'}, height, "
            "width) of torch.float32, normalised as the networks expect them"
        )
    return images, labels


def check_labels(images: Tensor, labels: Tensor, logits: Sequence[int]) -> None:
    """MoonshineError for labels on which a network with ``logits`` of that shape, (1, K) or (1, K, H, W), cannot learn.

    They are int64, one for each image or pixel, from 0 to K - 1; or `UNLABELLED`, for a pixel without a label.
    """
    classes, is_dense = logits[1], len(logits) == 4
    wanted = (len(images), *(images.shape[2:] if is_dense else ()))
    if labels.dtype != torch.int64 or labels.shape != wanted:
        raise MoonshineError(
            f"labels: found {tuple(labels.shape)} of {labels.dtype}; allowed: {wanted} of torch.int64, a class "
            + ("of each pixel" if is_dense else "of each image")
        )
    given = labels[labels != UNLABELLED] if is_dense else labels
    if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < classes:
        raise MoonshineError(
            f"labels: found {int(given.min())} to {int(given.max())}; allowed: 0 to {classes - 1}"
            + (f", or {UNLABELLED} for a pixel without a label" if is_dense else "")
        )
