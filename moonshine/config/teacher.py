"""Section ``teacher`` of a study: the network that the students learn from."""

from __future__ import annotations

import json

from pydantic import Field, JsonValue, model_validator

from moonshine.fields import FilePath, Section, Seed, Sha256, Text
from moonshine.networks.families import is_model

PUBLISHED = "torchvision"
"""Value of ``weights`` for the pretrained weights that torchvision publishes; write ./torchvision for such a file."""


class Teacher(Section):
    """Network that the students learn from: ``network`` is a built-in one, ``model`` a third-party one.

    With ``weights`` it is pretrained and only evaluated; without, it is trained first, with ordinary blocks. Weights
    that torchvision publishes need no ``weights_sha256``, since their file names contain it. ``weights_prefix`` selects
    a file's tensors where that is ambiguous. ``include`` and ``exclude`` are patterns of the places where students of a
    model may get cheap blocks. ``taps`` are the modules whose outputs attention transfer compares, discovered by
    default.
    """

    network: Text | None = None
    model: Text | None = None
    kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    weights: FilePath | None = None
    weights_sha256: Sha256 | None = None
    weights_prefix: Text | None = None
    include: list[Text] = Field(default_factory=list)
    exclude: list[Text] = Field(default_factory=list)
    taps: list[Text] | None = None
    seed: Seed

    @model_validator(mode="after")
    def _is_one_network(self) -> Teacher:
        if (self.network is None) == (self.model is None):
            raise ValueError(
                "needs either 'network' (such as wrn-16-1) or 'model' (such as torchvision/resnet18 or my_nets:build)"
            )
        try:
            json.dumps(self.kwargs, allow_nan=False)
        except ValueError:
            raise ValueError("kwargs: found a number that is not finite; allowed: what JSON holds") from None
        if self.model is not None and not is_model(self.model):
            raise ValueError(
                f"model is {self.model!r}; allowed: torchvision/<name>, timm/<name> or <module>:<function>"
            )
        if self.network is not None and is_model(self.network):
            raise ValueError(f"network is {self.network!r}, which names a model; write model: {self.network}")
        for key in ("kwargs", "include", "exclude"):
            if self.network is not None and getattr(self, key):
                raise ValueError(f"{key} belongs to a 'model'; found it beside network: {self.network}")
        if self.weights == PUBLISHED:
            if self.model is None or not self.model.startswith("torchvision/"):
                raise ValueError(
                    f"weights: torchvision are those of its own models; found them with {self.name}; allowed: "
                    "model: torchvision/<name>, or a file of weights"
                )
            if self.weights_sha256 is not None:
                raise ValueError(
                    "weights_sha256: weights: torchvision have their checksum in their name; allowed: leave it out"
                )
        if self.weights_prefix is not None and self.weights in (None, PUBLISHED):
            raise ValueError("weights_prefix: belongs to a file of weights, and there is none")
        if self.weights != PUBLISHED and (self.weights is None) != (self.weights_sha256 is None):
            raise ValueError(
                "'weights' and 'weights_sha256' come together; `moonshine checksum FILE` prints the latter"
            )
        return self

    @property
    def name(self) -> str:
        """Return the name of the network or model."""
        return self.network or self.model or ""
