"""The notation of blocks: texts and slugs, values of every type, and messages for what cannot be read."""

import re
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonshine import MoonshineError
from moonshine.blocks.families.grouped import standard
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.notation import ONCE, Block, Parameter, Share
from moonshine.blocks.registry import KINDS, parse

whole = st.integers(1, 999)
fractions = st.fractions(0, 1, max_denominator=999).filter(bool)
EVERY = (
    Parameter("a", width="N"),
    Parameter("p", whole=False, fraction=True),
    Parameter("w", whole=False, words=("p4", "p4m")),
    ONCE,
)


@pytest.fixture(autouse=True)
def a_kind_with_values_of_every_type(monkeypatch):
    monkeypatch.setitem(KINDS, "E2", Kind("E2", EVERY, standard))


def share(width: str) -> st.SearchStrategy:
    return whole | st.builds(Share, st.just(width), whole)


paper = st.one_of(
    st.just(Block("S")),
    st.builds(lambda g: Block("G", (g,)), share("N")),
    st.builds(lambda b: Block("B", (b,)), whole),
    st.builds(lambda b, g: Block("BG", (b, g)), whole, share("M")),
)
blocks = paper | st.builds(
    lambda *values: Block("E2", values[:3] + values[3]),
    share("N"),
    fractions,
    st.sampled_from(["p4", "p4m"]),
    st.sampled_from([(), ("once",)]),
)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        ("E2(N/2, 1/4, p4)", "E2(N/2,0.25,p4)", "E2-N_2-0p25-p4"),
        ("E2(3,0.250,p4m,once)", "E2(3,0.25,p4m,once)", "E2-3-0p25-p4m-once"),
        ("E2-3-2_6-p4", "E2(3,1/3,p4)", "E2-3-1_3-p4"),
        ("E2(1,1,p4)", "E2(1,1,p4)", "E2-1-1-p4"),
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
        ("E2(1,0.5,q)", "w is 'q'; allowed: p4 or p4m"),
        ("E2(1,0.0,p4)", r"p is '0\.0'; allowed: a fraction above 0 and up to 1"),
        ("E2(1,3/2,p4)", "p is '3/2'"),
        ("E2(0.5,0.5,p4)", r"a is '0\.5'; allowed: a whole number from 1, N or N/x"),
        ("E2(1,0.5,p4,twice)", "once is 'twice'; allowed: once"),
        ("E2(1,0.5)", r"found 2 values; allowed: E2\(a,p,w,\[once\]\)"),
        ("G(4", "not a block"),
        ("G(4),", "not a block"),
        (4, "block 4 is not a block"),
        (None, "block None is not a block"),
    ],
)
def test_unreadable_blocks_say_what_is_allowed(text, message):
    with pytest.raises(MoonshineError, match=message):
        parse(text)


def test_fractions_are_exact():
    assert parse("E2(1,1/3,p4)").values[1] == Fraction(1, 3)
    assert parse("E2(1,0.1,p4)").values[1] == Fraction(1, 10)
