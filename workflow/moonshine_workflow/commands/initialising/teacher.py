"""The network of a new study and its weights: the section ``teacher``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from moonshine.config.teacher import PUBLISHED
from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine.networks.families import is_model
from moonshine.networks.models import is_registered
from moonshine.structures.build import from_structure, to_structure
from moonshine.structures.describe import describe_model
from moonshine.structures.given_weights import PrefixNeeded, load_given_weights
from moonshine.substitution.substitute import nothing_to_replace
from moonshine_workflow.commands.initialising.data import Seen

CLASSES = ("num_classes", "classes", "n_classes", "num_labels")
"""Arguments of a function of the user's that may be the number of classes."""

EPOCHS = 5
NEW_HEAD: dict[str, Any] = {"head": "replace", "finetune": {"epochs": EPOCHS}}


@dataclass(frozen=True)
class InitialTeacher:
    """Section ``teacher``, and ``normalisation`` if the weights state one; ``said``: what was assumed."""

    section: dict[str, Any]
    normalisation: dict[str, list[float]] | None = None
    said: list[str] = field(default_factory=list)


def look_at_teacher(
    name: str, kwargs: Mapping[str, Any], weights: str | None, prefix: str | None, seen: Seen
) -> InitialTeacher:
    """Build the network for the data and fill it with its weights.

    MoonshineError for a model that does not build, take the images or give logits for their classes, for one in which
    nothing can be replaced, and for weights that do not fit.
    """
    said: list[str] = []
    if is_model(name):
        module, kwargs = _build(name, kwargs, seen, said)
        section: dict[str, Any] = {"model": name, **({"kwargs": dict(kwargs)} if kwargs else {})}
    else:
        module = from_structure(to_structure(name, "S", seen.classes, seen.shape[0]))
        section = {"network": name}
    if weights is None:
        said.append("no --weights: the teacher is trained first")
        return InitialTeacher({**section, "seed": 0}, None, said)
    section["weights"] = weights
    if weights != PUBLISHED:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise MoonshineError(f"--weights: {weights} is no file; allowed: .safetensors or a state dict")
        section["weights_sha256"] = sha256(path)
        section |= _fitting(module, path, section["weights_sha256"], prefix, seen.classes, said)
    elif _is_for_other_classes(name, seen.classes):
        section |= NEW_HEAD
    normalisation = _normalisation(name, module)
    if normalisation:
        said.append(f"the weights see images normalised as {name.partition('/')[0]} states it")
    else:
        said.append(
            "nothing states the normalisation that the weights were trained with: that of the training images; if it "
            "was another, write it under data"
        )
    return InitialTeacher({**section, "seed": 0}, normalisation, said)


def _build(
    name: str, kwargs: Mapping[str, Any], seen: Seen, said: list[str]
) -> tuple[nn.Module, Mapping[str, Any]]:
    """Build a third-party model; a function of the user's also gets the number of classes, under the name it has."""
    tries: list[Mapping[str, Any]] = [kwargs]
    if not is_registered(name):
        tries += [{**kwargs, key: seen.classes} for key in CLASSES if key not in kwargs]
    refused: list[MoonshineError] = []
    for given in tries:
        try:
            _, module, layout = describe_model(name, given, seen.classes, seen.shape)
        except MoonshineError as error:
            refused.append(error)
            continue
        if not layout.places:
            raise MoonshineError(f"--model: {nothing_to_replace(name, 'a cheap block', layout.kept)}")
        if given != kwargs:
            said.append(f"{name} is called with {', '.join(f'{key}={given[key]}' for key in given)}")
        return module, given
    raise MoonshineError(f"--model: {refused[0]}; its arguments: --kwargs '{{\"width\": 64}}'")


def _fitting(
    module: nn.Module, path: Path, checksum: str, prefix: str | None, classes: int, said: list[str]
) -> dict[str, Any]:
    """Return the keys of the section with which the weights fit, as they are or with a new head.

    MoonshineError where they fit in neither way: why they do not fit as they are, and which layers a new head leaves.
    """
    try:
        return _loaded(module, path, checksum, prefix, None, said)
    except MoonshineError as error:
        refused = error
    try:
        keys = _loaded(module, path, checksum, prefix, classes, said)
    except MoonshineError as error:
        raise MoonshineError(f"--weights: {refused}; with a new head: {error}") from None
    said.append(f"{path} is for another number of classes: a new head is drawn, and trained {EPOCHS} epochs")
    return {**keys, **NEW_HEAD}


def _loaded(
    module: nn.Module, path: Path, checksum: str, prefix: str | None, new_head: int | None, said: list[str]
) -> dict[str, Any]:
    try:
        load_given_weights(module, path, checksum, prefix, new_head)
    except PrefixNeeded as error:
        prefix, *others = error.prefixes
        load_given_weights(module, path, checksum, prefix, new_head)
        more = f"; {', '.join(others)} would do too" if others else ""
        said.append(f"of {path} the tensors whose key and name begin with {prefix}{more}")
    return {"weights_prefix": prefix} if prefix else {}


def _is_for_other_classes(name: str, classes: int) -> bool:
    """Whether the weights that torchvision publishes for a model are for another number of classes."""
    from torchvision.models import get_model_weights

    weights = get_model_weights(name.partition("/")[2])
    return bool(list(weights)) and len(weights.DEFAULT.meta["categories"]) != classes


def _normalisation(name: str, module: nn.Module) -> dict[str, list[float]] | None:
    """Return what the pretrained weights of a library's model were trained with."""
    library, _, model = name.partition("/")
    if library == "timm":
        stated = getattr(module, "pretrained_cfg", None) or {}
    elif library == "torchvision":
        from torchvision.models import get_model_weights

        weights = get_model_weights(model)
        stated = vars(weights.DEFAULT.transforms()) if list(weights) else {}
    else:
        return None
    if not (stated.get("mean") and stated.get("std")):
        return None
    return {key: [round(float(value), 6) for value in stated[key]] for key in ("mean", "std")}
