"""Blocks: notation, slugs, the convolutions they stand for, and messages for those that do not fit."""

import re
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moonshine import MoonshineError
from moonshine.blocks.kinds import (
    KINDS,
    Block,
    Conv,
    Kind,
    Parameter,
    Share,
    convolutions,
    divisors,
    group_count,
    parse,
)
from moonshine.blocks.residual import make_block

whole = st.integers(1, 999)


def share(width: str) -> st.SearchStrategy:
    return whole | st.builds(Share, st.just(width), whole)


blocks = st.one_of(
    st.just(Block("S")),
    st.builds(lambda g: Block("G", (g,)), share("N")),
    st.builds(lambda b: Block("B", (b,)), whole),
    st.builds(lambda b, g: Block("BG", (b, g)), whole, share("M")),
)


@settings(deadline=None, max_examples=100)
@given(blocks)
def test_text_and_slug_name_the_same_block(block):
    assert parse(str(block)) == block
    assert parse(block.slug) == block
    assert re.fullmatch(r"[A-Za-z0-9_+-]+", block.slug)


@pytest.mark.parametrize(
    ("text", "canonical", "slug"),
    [
        ("S", "S", "S"),
        ("G(4)", "G(4)", "G-4"),
        ("G(N/1)", "G(N)", "G-N"),
        (" BG( 2, M/8 ) ", "BG(2,M/8)", "BG-2-M_8"),
        ("BG-2-M_8", "BG(2,M/8)", "BG-2-M_8"),
    ],
)
def test_spellings(text, canonical, slug):
    assert str(parse(text)) == canonical
    assert parse(text).slug == slug


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X(3)", r"unknown kind 'X'; allowed: S, G\(g\), B\(b\), BG\(b,g\)"),
        ("g(4)", "unknown kind 'g'"),
        ("G", r"found 0 values; allowed: G\(g\)"),
        ("S(2)", "found 1 values; allowed: S"),
        ("BG(2)", r"found 1 values; allowed: BG\(b,g\)"),
        ("G(0)", "g is '0'; allowed: a whole number from 1, N or N/x"),
        ("G(04)", "g is '04'"),
        ("G(-2)", "g is '-2'"),
        ("G(M/2)", "g is 'M/2'; allowed: a whole number from 1, N or N/x"),
        ("G(N/0)", "g is 'N/0'"),
        ("B(N/2)", "b is 'N/2'; allowed: a whole number from 1$"),
        ("BG(2,N/8)", "g is 'N/8'; allowed: a whole number from 1, M or M/x"),
        ("G(N_8)", "g is 'N_8'"),
        ("G-N/8", "not a block; allowed: S, G"),
        ("", "not a block"),
        ("G(4", "not a block"),
        ("G(4),", "not a block"),
        (4, "block 4 is not a block"),
        (None, "block None is not a block"),
    ],
)
def test_unreadable_blocks_say_what_is_allowed(text, message):
    with pytest.raises(MoonshineError, match=message):
        parse(text)


def test_table_1():
    """Convolution parameters of the reference notes, at a stride of 1 where the width does not change."""

    def weights(block: str, width: int) -> int:
        flat = [conv for unit in convolutions(block, width, width) for conv in unit]
        return sum(c.in_channels * c.out_channels * c.kernel**2 // c.groups for c in flat)

    n, k = 64, 3
    assert weights("S", n) == 2 * n**2 * k**2
    assert weights("G(N/8)", n) == 2 * (n**2 * k**2 // 8 + n**2)
    assert weights("B(4)", n) == (n // 4) ** 2 * k**2 + 2 * n**2 // 4
    assert weights("BG(2,M/8)", n) == (n // 2) ** 2 * k**2 // (32 // 8) + 2 * n**2 // 2


def test_first_block_of_a_stage():
    """G keeps the input width until its 1x1; B narrows the output width, with the stride on its kxk."""
    assert convolutions("G(N/8)", 32, 64, 2) == (
        (Conv(32, 32, 3, 2, groups=4), Conv(32, 64)),
        (Conv(64, 64, 3, 1, groups=8), Conv(64, 64)),
    )
    assert convolutions("BG(2,M/8)", 32, 64, 2) == (
        (Conv(32, 32), Conv(32, 32, 3, 2, groups=4), Conv(32, 64)),
    )


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ("G(3)", "3 groups do not divide N = 8 channels; allowed: 1, 2, 4, 8, N, N/2, N/4, N/8"),
        ("G(N/16)", "N/16 groups do not divide N = 8 channels; allowed: 1, 2, 4, 8, N, N/2, N/4, N/8"),
        ("B(5)", "a bottleneck of 5 does not divide N = 18 output channels; allowed: 1, 2, 3, 6, 9, 18"),
        ("BG(3,4)", "4 groups do not divide M = 6 channels; allowed: 1, 2, 3, 6, M, M/2, M/3, M/6"),
    ],
)
def test_a_block_that_does_not_fit_says_where_and_what_would(block, reason):
    with pytest.raises(MoonshineError) as caught:
        make_block(block, 8, 18, 2, path="stage2.0")
    assert str(caught.value) == f"block {block} does not fit stage2.0: {reason}"


@settings(deadline=None, max_examples=60)
@given(blocks, st.integers(1, 48), st.integers(1, 48))
def test_a_block_fits_exactly_when_its_values_divide(block, inputs, outputs):
    def divides(value, width):
        return width % (value.divisor if isinstance(value, Share) else value) == 0

    if block.kind in ("S", "G"):
        fits = all(divides(value, width) for value in block.values for width in (inputs, outputs))
    else:
        fits = divides(block.values[0], outputs)
        fits = fits and all(divides(value, outputs // block.values[0]) for value in block.values[1:])
    if not fits:
        with pytest.raises(MoonshineError, match="does not fit"):
            convolutions(block, inputs, outputs, 2)
        return
    assert make_block(block, inputs, outputs, 2)(torch.zeros(2, inputs, 5, 3)).shape == (2, outputs, 3, 2)


def test_every_allowed_value_of_the_message_fits():
    with pytest.raises(MoonshineError) as caught:
        convolutions("G(7)", 16, 32)
    allowed = str(caught.value).partition("allowed: ")[2].split(", ")
    assert len(allowed) == 2 * len(divisors(16))
    for value in allowed:
        convolutions(f"G({value})", 16, 32)


def test_a_new_kind_is_one_definition(monkeypatch):
    def wide(inputs, outputs, stride, g):
        return ((Conv(inputs, outputs, 5, stride, group_count(g, inputs, "N")),),)

    monkeypatch.setitem(KINDS, "W5", Kind("W5", (Parameter("g", "N"),), wide))
    block = parse("W5(N/2)")
    assert parse(block.slug) == block
    assert make_block(block, 4, 8, 2)(torch.ones(1, 4, 8, 8)).shape == (1, 8, 4, 4)
    with pytest.raises(MoonshineError, match=r"W5\(3\) does not fit stage9: 3 groups do not divide N = 4"):
        make_block("W5(3)", 4, 8, path="stage9")
    with pytest.raises(MoonshineError, match=r"allowed: .*W5\(g\)"):
        parse("Q")


def test_blocks_are_read_without_torch():
    code = (
        "import sys, moonshine.blocks.kinds, moonshine.structures.build as n; n.assign('wrn-40-2', 'G(4)');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
