"""Third-party models by name: torchvision's, timm's, and functions on the Python path that build one.

A name of the last kind is code that building it runs. A caller of `build_model` agrees by naming it; a name that
comes from a file is run only where the caller trusts it (`moonshine.structures.build.rebuild`).
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
"""An argument of every model of timm's: weights from a file, unpickled by some versions."""

Trust = str | Collection[str]
"""Whose code may run: packages or modules (``my_pkg``, ``my_pkg.nets``), or builders (``my_pkg.nets:build``)."""


def build_model(name: str, kwargs: Mapping[str, Any], num_classes: int, in_channels: int = 3) -> nn.Module:
    """The model, newly initialised, without pretrained weights.

    torchvision's and timm's get ``num_classes`` (timm's ``in_chans`` too) unless ``kwargs`` say otherwise; the user's
    own function gets ``kwargs`` and nothing else. torchvision's segmentation networks return the logits, not a
    dictionary of them.
    MoonshineError for a name that is no model, an import that fails, and a builder that fails or returns no
    plain module: compiled, scripted, lazy, or with parameters of other types than fp32.
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
        raise MoonshineError(f"model {name!r} is none; allowed: {_ALLOWED}")
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
    """MoonshineError for a model that is no plain module in fp32: compiled, scripted, lazy, in other numbers."""
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
    """A copy for a builder, which may change what it gets, of ``kwargs`` as JSON gives them back; ``key`` names them.

    MoonshineError unless they are a mapping and that is the same.
    """
    with suppress(TypeError, ValueError):
        copied = json.loads(json.dumps(kwargs))
        if isinstance(copied, dict) and copied == kwargs:
            return copied
    raise MoonshineError(
        f"{key}: found {kwargs}; allowed: what JSON holds (text, numbers, lists, mappings, null)"
    )


def is_registered(name: str) -> bool:
    """Whether a name is looked up in a library's register of models; any other is code on the Python path."""
    return name.startswith(tuple(f"{library}/" for library in LIBRARIES))


def check_trusted(name: str, trust: Trust) -> None:
    """MoonshineError unless a builder is registered, or trusted by its name, or defined in a package that is trusted.

    The module of a name is imported only if it is trusted; what it has imported from elsewhere is not its own.
    """
    trust = (trust,) if isinstance(trust, str) else trust
    if is_registered(name) or name in trust:
        return
    module = name.partition(":")[0]
    if not _within(module, trust):
        raise MoonshineError(
            f"model {name}: building it runs the code of {module}, which is not trusted; allowed: "
            f"{', '.join(f'{library}/<name>' for library in LIBRARIES)}, what the study's params.yaml names, or, where "
            f"you trust that code, trust={module.partition('.')[0]!r}"
        )
    builder: Any = inspect.unwrap(_function(name))
    while isinstance(builder, partial):
        builder = builder.func
    if not _within(home := str(getattr(builder, "__module__", None)), trust):
        raise MoonshineError(
            f"model {name}: it is defined in {home}, and trusted is {', '.join(trust)}; allowed: what is defined "
            f"there, or, where you trust this one, trust={name!r}"
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
    """Before a class whose forward pass returns a dictionary: the same, returning its "out"."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)["out"]  # type: ignore[misc]


def _returning_logits(builder: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """A builder of the same model, with its module paths and its weights' names, that returns the logits alone."""

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
        sys.path.insert(0, str(Path.cwd()))  # a console script does not look where it is started
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
