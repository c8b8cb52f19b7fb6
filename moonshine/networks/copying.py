"""Deep copies of networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

from moonshine.errors import MoonshineError, first_line

Module = TypeVar("Module", bound=nn.Module)


def copy_of(module: Module, twins: Mapping[int, Tensor] | None = None) -> Module:
    """A deep copy of a module, also of one with weights that a hook computes, as `torch.nn.utils.weight_norm` does.

    ``twins`` maps identities of the module's tensors to what the copy has in their stead.
    MoonshineError for a module that cannot be copied.
    """
    # What autograd computed cannot be copied and need not be: the next forward pass computes it again.
    computed = {
        id(value): value.detach().clone()
        for layer in module.modules()
        for value in vars(layer).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        # deepcopy takes what its memo holds as copied already.
        return copy.deepcopy(module, {**computed, **(twins or {})})
    except Exception as error:  # whatever a third-party module raises
        reason = first_line(error).partition(". ")[0]
        raise MoonshineError(
            f"{type(module).__name__} cannot be copied: {reason}; allowed: a network that copy.deepcopy copies"
        ) from error
