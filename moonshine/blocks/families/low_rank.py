"""Convolutions as the product of two, of a low rank between them.

Sources: Sainath et al., "Low-rank Matrix Factorization for Deep Neural Network Training", 2013, whose last layer it
was (LR); BayesWatch/deficient-efficient, ``Generic`` (SLR) and ``LowRank`` (TLR).
"""

from __future__ import annotations

from fractions import Fraction

from moonshine.blocks.expressions import Branches, Chain, Conv, Expression, Identity, Tied
from moonshine.blocks.families.kind import Kind, narrowed, rank
from moonshine.blocks.geometry import Geometry
from moonshine.blocks.notation import Parameter
from moonshine.errors import MoonshineError


def low_rank(place: Geometry, r: int) -> Expression:
    """LR(r): kxk to N/r, then a 1x1 to N, linear."""
    middle = narrowed(r, place.out_channels)
    return Chain(place.spatial(place.in_channels, middle), Conv(middle, place.out_channels))


def separable_low_rank(place: Geometry, p: Fraction) -> Expression:
    """SLR(p): depthwise kxk, 1x1 to a share p of the wider of both widths, 1x1 to N, linear."""
    inputs, outputs = place.in_channels, place.out_channels
    middle = rank(p, max(inputs, outputs))
    return Chain(place.spatial(inputs, inputs, groups=inputs), Conv(inputs, middle), Conv(middle, outputs))


def tied_low_rank(place: Geometry, p: Fraction) -> Expression:
    """TLR(p): depthwise kxk, channels repeated to N, a 1x1 to pN and its transpose back, linear."""
    inputs, outputs = place.in_channels, place.out_channels
    if outputs % inputs:
        raise MoonshineError(
            f"it cannot repeat {inputs} channels to N = {outputs}; allowed: a multiple, {inputs}, {2 * inputs}, ..."
        )
    repeated = [Branches("concat", *[Identity()] * (outputs // inputs))] if outputs > inputs else []
    cheap = place.spatial(inputs, inputs, groups=inputs)
    return Chain(cheap, *repeated, Tied(outputs, rank(p, outputs)))


SHARE = Parameter("p", whole=False, fraction=True)

KINDS = (
    Kind("LR", (Parameter("r"),), low_rank),
    Kind("SLR", (SHARE,), separable_low_rank),
    Kind("TLR", (SHARE,), tied_low_rank),
)
