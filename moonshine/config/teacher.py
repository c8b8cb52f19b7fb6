"""Section ``teacher`` of a study: the network that the students learn from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from moonshine.config.training import InFull, Training
from moonshine.fields import FilePath, Kwargs, Section, Seed, Sha256, Text
from moonshine.networks.families import is_model

PUBLISHED = "torchvision"
"""Value of ``weights`` for the pretrained weights that torchvision publishes; write ./torchvision for such a file."""


class Finetuning(Training):
    """Recipe of a pretrained teacher; ``freeze``: patterns of its modules that stay as they are, or ``stem``.

    ``stem`` is every layer before the first place of a block. A new head is always trained.
    """

    freeze: Text | list[Text] = Field(default_factory=list)


class Teacher(Section):
    """Network that the students learn from: ``network`` is a built-in one, ``model`` a third-party one.

    Without ``weights`` it is trained first, with ordinary blocks, by its own recipe ``training`` or the study's. With
    ``weights`` it is pretrained: trained on by the recipe ``finetune``, else only evaluated. ``head: replace`` takes
    weights for another number of classes, but for the layer that gives the logits, which is drawn anew. Weights that
    torchvision publishes need no ``weights_sha256``, since their file names contain it. ``weights_prefix`` selects a
    file's tensors where that is ambiguous. ``include`` and ``exclude`` are patterns of the places where students of a
    model may get cheap blocks. ``taps`` are the modules whose outputs attention transfer compares, discovered by
    default.
    """

    network: Text | None = None
    model: Text | None = None
    kwargs: Kwargs = Field(default_factory=dict)
    weights: FilePath | None = None
    weights_sha256: Sha256 | None = None
    weights_prefix: Text | None = None
    head: Literal["replace"] | None = None
    finetune: Annotated[Finetuning, InFull] | None = None
    training: Annotated[Training, InFull] | None = None
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
        if self.weights is None and (self.head or self.finetune):
            raise ValueError(
                f"{'head' if self.head else 'finetune'}: belongs to a pretrained teacher, and there are no weights; "
                "allowed without them: training"
            )
        if self.head and not self.finetune:
            raise ValueError(
                "head: found replace without finetune, the recipe that trains the new head; allowed: finetune, such as "
                "{epochs: 5}"
            )
        if self.weights is not None and self.training:
            raise ValueError("training: is for a teacher without weights; allowed beside weights: finetune")
        return self

    @property
    def name(self) -> str:
        """Return the name of the network or model."""
        return self.network or self.model or ""

    @property
    def is_trained(self) -> bool:
        """Whether it is trained in the study, not only evaluated."""
        return self.weights is None or self.finetune is not None
