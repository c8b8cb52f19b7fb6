"""The metadata that every exported file carries."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError
from moonshine.structures.structure import Structure

if TYPE_CHECKING:
    from moonshine.networks.models import Trust

_COLOURS = {1: "grey", 3: "RGB"}


@dataclass(frozen=True)
class About:
    """Input, classes and structure of a network.

    ``input_shape`` is (channels, height, width); ``mean`` and ``std`` per channel are what pixels in [0, 1] are
    normalised with, inside every exported graph. ``resize_rule`` describes how an image becomes an input, as in
    `moonshine.data.store.Dataset`. With ``scored_classes`` the network has logits for every pixel, and the classes
    after so many are never a right answer.
    """

    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    resize_rule: Mapping[str, Any]
    structure: Structure | None
    scored_classes: int | None = None

    def check(self) -> None:
        """MoonshineError where the parts do not belong together or are not what JSON holds."""
        shape = self.input_shape
        if len(shape) != 3 or any(type(size) is not int or size < 1 for size in shape):
            raise MoonshineError(
                f"input_shape: found {shape}; allowed: (channels, height, width), from 1 each"
            )
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != shape[0] or not all(map(math.isfinite, values)):
                raise MoonshineError(
                    f"{key}: found {values}; allowed: one number for each of {shape[0]} channels"
                )
        if min(self.std) <= 0:
            raise MoonshineError(f"std: found {self.std}; allowed: above 0")
        if len(self.class_names) < 2:
            raise MoonshineError(f"class_names: found {self.class_names}; allowed: at least two")
        scored, classes = self.scored_classes, len(self.class_names)
        if scored is not None and (type(scored) is not int or not 1 <= scored <= classes):
            raise MoonshineError(f"scored_classes: found {scored}; allowed: 1 to {classes}, or None")
        try:
            json.dumps([self.resize_rule, self.rebuilt_from], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MoonshineError(f"resize_rule or structure: {error}; allowed: what JSON holds") from None

    @property
    def is_dense(self) -> bool:
        """Whether the network has logits for every pixel, not for whole images."""
        return self.scored_classes is not None

    def logits_shape(self, images: int) -> tuple[int, ...]:
        """The shape of what the network returns for so many images."""
        return (images, len(self.class_names), *(self.input_shape[1:] if self.is_dense else ()))

    @property
    def rebuilt_from(self) -> dict[str, Any]:
        """The part of the structure that the network is rebuilt from; empty without one."""
        return self.structure.rebuilt_from() if self.structure else {}

    @property
    def trust(self) -> Trust:
        """The code that rebuilding the network runs, which is the caller's own."""
        return self.structure.network if self.structure else ()

    @property
    def structure_sha256(self) -> str:
        """Hex digest of `rebuilt_from` as JSON with sorted keys and without spaces."""
        return hashlib.sha256(_text(self.rebuilt_from).encode()).hexdigest()

    def values(self) -> dict[str, Any]:
        """Return all of it but the structure, in values that JSON holds."""
        channels, height, width = self.input_shape
        resize = self.resize_rule.get("resize")
        colour = _COLOURS.get(channels, f"{channels} channels,")
        return {
            "input": f"{colour} float32 in [0, 1], (n, {channels}, {height}, {width}); normalised inside",
            "input_shape": list(self.input_shape),
            "mean": list(self.mean),
            "std": list(self.std),
            "class_names": list(self.class_names),
            "resize_rule": dict(self.resize_rule),
            "shorter_side": resize if isinstance(resize, int) else None,  # then the middle is cut out
            "structure_sha256": self.structure_sha256,
            **({"scored_classes": self.scored_classes} if self.is_dense else {}),
        }

    def text(self) -> str:
        """Return the same as JSON: the metadata of a ``torch.export`` and of a ``.tflite`` file."""
        return _text(self.values())

    def texts(self) -> dict[str, str]:
        """Return the same, each value as JSON text: the metadata of an ONNX file."""
        return {key: _text(value) for key, value in sorted(self.values().items())}


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
