"""Multiply-accumulates of one operator, by its formula.

The formulas are those of `torch.utils.flop_counter`, whose FLOPs are twice the multiply-accumulates, and the ones
registered here. An operator that multiplies and has no formula is an error, never 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from moonshine.errors import MoonshineError

aten = torch.ops.aten


class NoFormula(MoonshineError):
    """An operator multiplies and has no formula for its multiply-accumulates."""


PRODUCTS = frozenset(
    {aten.mm, aten.addmm, aten.addmm_, aten.bmm, aten.baddbmm, aten.baddbmm_, aten.addbmm, aten.addbmm_}
    | {aten.mv, aten.addmv, aten.addmv_, aten.dot, aten.vdot}
)
"""Matrix products, whose factors are their last two tensors."""

_MULTIPLYING = re.compile(
    r"(?!_?upsample)\w*(conv(?!ert)|mm(?![a-z])|mv(?![a-z])|dot|matmul|linear|fft_[cr]2[cr]|rnn|lstm|gru|attention"
    r"|multi_?head|transformer|cdist|pdist|euclidean|linalg_(?!vector_norm|cross)|cholesky|triangular_solve|spsolve)"
)
_ELEMENTWISE_LIBRARIES = ("aten", "prim", "prims", "profiler", "torchvision")
"""Operator libraries whose multiplying operators are known by name; another library's operator may do anything."""


def macs_of(operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
    """Return the multiply-accumulates of one call of an operator (``torch.ops.aten.mm.default``) by its shapes.

    0 for an elementwise operator and for attention, which multiplies activations with each other. `NoFormula` names an
    operator that multiplies and has no formula.
    """
    library, name = operator._schema.name.split("::")
    if "scaled_dot_product" in name:
        return 0
    if formula := _FORMULAS.get(operator.overloadpacket):
        return formula(*args)
    if formula := flop_registry.get(operator.overloadpacket):
        return int(formula(*args, **kwargs, out_val=out)) // 2
    if library in _ELEMENTWISE_LIBRARIES and not _MULTIPLYING.match(name):
        return 0
    raise NoFormula(
        f"MACs: the operator {library}::{name} multiplies and has no formula; allowed: convolutions, matrix products, "
        "recurrent layers, and operators registered with torch.utils.flop_counter.register_flop_formula"
    )


def _matrix_product(*args: Any) -> int:
    """Return rows x inner x columns, times the batch; a vector is a matrix of one column."""
    left, right = factors(args)
    return left.numel() * (right.shape[-1] if right.dim() > 1 else 1)


def _recurrent_layer(steps: Tensor, from_input: Tensor, from_hidden: Tensor, *_: Any) -> int:
    """Return the MACs of every gate's two matrices, at every step of every sequence."""
    return steps.shape[:-1].numel() * (from_input.numel() + from_hidden.numel())


_FORMULAS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys(PRODUCTS, _matrix_product),
    aten.mkldnn_rnn_layer: _recurrent_layer,
}


def factors(args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Return the two tensors that a matrix product multiplies."""
    left, right = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)][-2:]
    return left, right
