"""Deep copies of networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from moonshine.errors import MoonshineError, first_line

Module = TypeVar("Module", bound=nn.Module)


def copy_of(module: Module, replacements: Mapping[int, Tensor] | None = None) -> Module:
    """Deep-copy a module, even if a hook computes its weights, as `torch.nn.utils.weight_norm` does.

    ``replacements`` maps ids of the module's tensors to the tensors that the copy has instead.
    MoonshineError for a module that cannot be copied.
    """
    # Results of autograd cannot be copied and need not be: the next forward pass computes them again.
    computed = {
        id(value): value.detach().clone()
        for layer in module.modules()
        for value in vars(layer).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        # deepcopy treats everything in its memo as copied already.
        return copy.deepcopy(module, {**computed, **(replacements or {})})
    except Exception as error:  # whatever a third-party module raises
        reason = first_line(error).partition(". ")[0]
        raise MoonshineError(
            f"{type(module).__name__} cannot be copied: {reason}; allowed: a network that copy.deepcopy copies"
        ) from error
