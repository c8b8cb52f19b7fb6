"""Feature maps read by forward hooks on module paths, so that no network has to return them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.networks.passes import without_side_effects


@contextmanager
def record(
    module: nn.Module, paths: Iterable[str], copied: Collection[str] = ()
) -> Iterator[dict[str, Tensor]]:
    """Record outputs within the context: every forward pass fills the yielded dict, path -> that module's output.

    The dict is emptied when a forward pass starts and filled in the order in which the submodules run. Tensors keep
    their graph. A submodule that runs twice leaves its last output. On exit the hooks are removed, and the dict keeps
    the outputs of the last pass. Outputs at the paths in ``copied`` are copies, which no later layer can overwrite: see
    `overwritten`.

    MoonshineError for a path that the module does not have, and during the forward pass for an output that is not a
    tensor.
    """
    modules = dict(module.named_modules())
    paths = tuple(paths)
    for path in paths:
        if path not in modules:
            raise MoonshineError(_unknown(path, modules))
    recorded: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        hooks.enter_context(module.register_forward_pre_hook(lambda *_: recorded.clear()))
        for path in paths:
            hooks.enter_context(modules[path].register_forward_hook(_writer(recorded, path, copied)))
        yield recorded


def overwritten(module: nn.Module, paths: Sequence[str], images: Tensor) -> set[str]:
    """Return the paths whose output a later layer overwrites, as ``ReLU(inplace=True)`` does.

    Determined in an eval forward pass of the first of ``images`` (n, channels, height, width), without side effects.
    """
    found: dict[str, tuple[Tensor, int]] = {}

    def note(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found[path] = output, output._version

        return hook

    modules = dict(module.named_modules())
    with without_side_effects(module, images.device), ExitStack() as hooks:
        for path in paths:
            hooks.enter_context(modules[path].register_forward_hook(note(path)))
        module(images[:1].clone())
    return {path for path, (output, version) in found.items() if output._version != version}


def _writer(
    recorded: dict[str, Tensor], path: str, copied: Collection[str]
) -> Callable[[nn.Module, Any, Any], None]:
    def write(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            raise MoonshineError(
                f"tap {path!r}: {type(module).__name__} returns a {type(output).__name__}; "
                "allowed: one tensor"
            )
        recorded[path] = output.clone() if path in copied else output

    return write


def _unknown(path: str, modules: dict[str, nn.Module]) -> str:
    names = [name for name in modules if name]
    close = get_close_matches(path, names, n=5, cutoff=0.5)
    hint = f"close to it: {', '.join(close)}" if close else f"it has: {', '.join(names[:10])}"
    return f"tap {path!r}: {type(modules['']).__name__} has no such module; {hint}"
