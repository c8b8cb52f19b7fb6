"""Third-party models by name: torchvision's, timm's, and functions on the Python path that build one.

Building a model of the last kind runs the user's code. A caller of `build_model` consents by naming it; a name that
comes from a file is run only if the caller trusts it (`moonshine.structures.build.from_structure`).
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import partial, wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.networks.sources import ADDED

_ALLOWED = "torchvision/<name>, timm/<name>, or <module>:<function> on the Python path"
LIBRARIES = ("torchvision", "timm")
READS_A_FILE = "checkpoint_path"
"""Argument of all timm models: weights from a file, which some versions unpickle."""

Trust = str | Collection[str]
"""Code that may run: packages or modules (``my_pkg``, ``my_pkg.nets``), or builders (``my_pkg.nets:build``)."""


def build_model(name: str, kwargs: Mapping[str, Any], num_classes: int, in_channels: int = 3) -> nn.Module:
    """Build a model, newly initialised, without pretrained weights.

    torchvision's and timm's builders get ``num_classes`` (timm's also ``in_chans``) unless ``kwargs`` override them;
    the user's own function gets ``kwargs`` only. torchvision's segmentation networks return the logits instead of a
    dictionary of them.
    MoonshineError for an invalid name, a failed import, and a builder that fails or does not return a plain fp32
    module: one that is compiled, scripted, lazy, or has parameters of other types.
    """
    library, _, model = name.partition("/")
    if is_registered(name):
        if READS_A_FILE in kwargs:
            raise MoonshineError(
                f"model {name}: kwargs has {READS_A_FILE}, which reads a file; allowed: teacher.weights, with its "
                "checksum"
            )
        build, defaults = {"torchvision": _torchvision, "timm": _timm}[library](
            model, num_classes, in_channels
        )
    elif ":" in name:
        build, defaults = _function(name), {}
    else:
        raise MoonshineError(f"{name!r} is not a valid model name; allowed: {_ALLOWED}")
    try:
        built = build(**{**defaults, **kwargs})
    except Exception as error:  # whatever a third-party builder raises
        raise MoonshineError(
            f"model {name}: building it with {dict(kwargs)} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(built, nn.Module):
        raise MoonshineError(f"model {name}: returned a {type(built).__name__}; allowed: a torch.nn.Module")
    _check_module(name, built)
    return built


def _check_module(name: str, built: nn.Module) -> None:
    """MoonshineError for a model that is not a plain fp32 module: compiled, scripted, lazy, or of other types."""
    for path, layer in built.named_modules():
        if type(layer).__name__ == "OptimizedModule" or getattr(layer, "_compiled_call_impl", None):
            raise MoonshineError(
                f"model {name}: {path or 'it'} is compiled (torch.compile); allowed: the module itself, which "
                "runtime.compile: true compiles for training"
            )
        if isinstance(layer, torch.jit.ScriptModule):
            raise MoonshineError(
                f"model {name}: {path or 'it'} is TorchScript (torch.jit); allowed: the Python module that it was "
                "made from"
            )
    for path, parameter in (*built.named_parameters(), *built.named_buffers()):
        if nn.parameter.is_lazy(parameter):
            raise MoonshineError(
                f"model {name}: {path} has no shape before a first forward pass; allowed: layers with their sizes, "
                "as Conv2d instead of LazyConv2d"
            )
    for path, parameter in built.named_parameters():
        if parameter.dtype != torch.float32:
            raise MoonshineError(
                f"model {name}: {path} is of {parameter.dtype}; allowed: torch.float32 (training.precision: bf16 "
                "computes in 16 bits)"
            )


def json_copy(kwargs: Any, key: str) -> dict[str, Any]:
    """Return a copy of ``kwargs`` by way of JSON, for a builder, which may modify it; ``key`` names them in errors.

    MoonshineError unless they are a mapping that JSON preserves.
    """
    with suppress(TypeError, ValueError):
        copied = json.loads(json.dumps(kwargs))
        if isinstance(copied, dict) and copied == kwargs:
            return copied
    raise MoonshineError(
        f"{key}: found {kwargs}; allowed: what JSON holds (text, numbers, lists, mappings, null)"
    )


def is_registered(name: str) -> bool:
    """Whether a name belongs to a library's registry of models; any other is code on the Python path."""
    return name.startswith(tuple(f"{library}/" for library in LIBRARIES))


def check_trusted(name: str, trust: Trust) -> None:
    """MoonshineError unless a builder is registered, trusted by its name, or defined in a trusted package.

    A module is imported only if it is trusted; functions that it imports from elsewhere do not inherit its trust.
    """
    trust = (trust,) if isinstance(trust, str) else trust
    if is_registered(name) or name in trust:
        return
    module = name.partition(":")[0]
    if not _within(module, trust):
        raise MoonshineError(
            f"model {name}: building it runs the code of {module}, which is not trusted; allowed: "
            f"{', '.join(f'{library}/<name>' for library in LIBRARIES)}, models named in the study's params.yaml, or, "
            f"if you trust that code, trust={module.partition('.')[0]!r}"
        )
    builder: Any = inspect.unwrap(_function(name))
    while isinstance(builder, partial):
        builder = builder.func
    if not _within(home := str(getattr(builder, "__module__", None)), trust):
        raise MoonshineError(
            f"model {name}: it is defined in {home}, but only {', '.join(trust)} is trusted; allowed: functions "
            f"defined there, or, if you trust this one, trust={name!r}"
        )


def _within(module: str, packages: Collection[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


def _torchvision(model: str, num_classes: int, in_channels: int) -> tuple[Callable[..., Any], dict[str, Any]]:
    try:
        from torchvision import models
    except ModuleNotFoundError:
        raise _not_installed("torchvision", model, "data") from None

    known = models.list_models()
    if model not in known:
        raise _unknown("torchvision", model, known)
    builder = models.get_model_builder(model)
    if model in models.list_models(module=models.segmentation):
        builder = _returning_logits(builder)
    defaults: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if "weights_backbone" in inspect.signature(builder).parameters:
        defaults["weights_backbone"] = None  # its default is a download
    return builder, defaults


class _Out:
    """Mixin for a class whose forward pass returns a dictionary: returns its "out"."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)["out"]  # type: ignore[misc]


def _returning_logits(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a builder of the same model, module paths and weight names included, that returns the logits alone."""

    @wraps(builder)
    def build(**kwargs: Any) -> nn.Module:
        model = builder(**kwargs)
        model.__class__ = type(type(model).__name__, (_Out, type(model)), {})
        return model

    return build


def _timm(model: str, num_classes: int, in_channels: int) -> tuple[Callable[..., Any], dict[str, Any]]:
    try:
        import timm
    except ModuleNotFoundError:
        raise _not_installed("timm", model, "timm") from None
    if not timm.is_model(model):
        raise _unknown("timm", model, timm.list_models())

    def build(**kwargs: Any) -> Any:
        return timm.create_model(model, pretrained=False, **kwargs)

    return build, {"num_classes": num_classes, "in_chans": in_channels}


def _not_installed(library: str, model: str, extra: str) -> MoonshineError:
    return MoonshineError(
        f"model {library}/{model}: {library} is not installed; install it with: "
        f"pip install 'moonshine-distil[{extra}]'"
    )


def _unknown(library: str, model: str, known: list[str]) -> MoonshineError:
    close = get_close_matches(model, known, n=5, cutoff=0.5) or known[:5]
    return MoonshineError(f"model {library}/{model} is unknown; close to it: {', '.join(close)}")


def _function(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a console script does not have the working folder on its path
    before = set(sys.path)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever third-party code raises, a script's exit included
        raise MoonshineError(
            f"model {name}: {module_name} does not import from {Path.cwd()}: {type(error).__name__}: {error}"
        ) from error
    ADDED.update(set(sys.path) - before)
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = (
                get_close_matches(part, dir(found), n=3)
                or [each for each in dir(found) if each[0] != "_"][:8]
            )
            raise MoonshineError(
                f"model {name}: {module_name} has no {attribute}; close to it: {', '.join(near)}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise MoonshineError(f"model {name}: {attribute} is a {type(found).__name__}; allowed: a function")
    return found
