"""The notation of blocks: texts and slugs, values of every type, and messages for what cannot be read."""

import re
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moonshine import MoonshineError
from moonshine.blocks.families.grouped import standard
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.notation import ONCE, Block, Parameter, WidthShare
from moonshine.blocks.registry import KINDS, parse_block
from tests.messages import naming

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
    return whole | st.builds(WidthShare, st.just(width), whole)


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(blocks)
def test_text_and_slug_name_the_same_block(block):
    assert parse_block(str(block)) == block
    assert parse_block(block.slug) == block
    assert re.fullmatch(r"[A-Za-z0-9_+-]+", block.slug)


@pytest.mark.parametrize(
    ("text", "canonical", "slug"),
    [
        ("S", "S", "S"),
        ("G(4)", "G(4)", "G-4"),
        ("G(N/1)", "G(N)", "G-N"),
        (" BG( 2, M/8 ) ", "BG(2,M/8)", "BG-2-M_8"),
        ("BG-2-M_8", "BG(2,M/8)", "BG-2-M_8"),
        ("MobileNet", "G(N)", "G-N"),
        ("Jaderberg(2,relu)", "LRE(2,relu)", "LRE-2-relu"),
        ("DeepFried", "FRIED", "FRIED"),
        ("E2(N/2, 1/4, p4)", "E2(N/2,0.25,p4)", "E2-N_2-0p25-p4"),
        ("E2(3,0.250,p4m,once)", "E2(3,0.25,p4m,once)", "E2-3-0p25-p4m-once"),
        ("E2-3-2_6-p4", "E2(3,1/3,p4)", "E2-3-1_3-p4"),
        ("E2(1,1,p4)", "E2(1,1,p4)", "E2-1-1-p4"),
    ],
)
def test_spellings(text, canonical, slug):
    assert str(parse_block(text)) == canonical
    assert parse_block(text).slug == slug


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X(3)", ["unknown", "X", "S", "G(g)", "B(b)", "BG(b,g)"]),
        ("g(4)", ["unknown", "g"]),
        ("G", ["0 values", "G(g)"]),
        ("S(2)", ["1 values", "S"]),
        ("BG(2)", ["1 values", "BG(b,g)"]),
        ("G(0)", ["g", "0", "1", "N", "N/x"]),
        ("G(04)", ["g", "04"]),
        ("G(-2)", ["g", "-2"]),
        ("G(M/2)", ["g", "M/2", "1", "N", "N/x"]),
        ("G(N/0)", ["g", "N/0"]),
        ("B(N/2)", ["b", "N/2", "1"]),
        ("BG(2,N/8)", ["g", "N/8", "1", "M", "M/x"]),
        ("G(N_8)", ["g", "N_8"]),
        ("G-N/8", ["block", "S", "G"]),
        ("", ["not a valid block"]),
        ("E2(1,0.5,q)", ["w", "q", "p4", "p4m"]),
        ("E2(1,0.0,p4)", ["p", "0.0", "0", "1"]),
        ("E2(1,3/2,p4)", ["p", "3/2"]),
        ("E2(0.5,0.5,p4)", ["a", "0.5", "1", "N", "N/x"]),
        ("E2(1,0.5,p4,twice)", ["once", "twice"]),
        ("E2(1,0.5)", ["2 values", "E2(a,p,w[,once])"]),
        ("G(4", ["G(4", "not a valid block"]),
        ("MobileNet(4)", ["MobileNet(4)", "values", "G(N)"]),
        ("Sainath", ["Sainath", "0 values", "LR(r)"]),
        ("Xception(2)", ["Xception(2)", "1 values", "XCEP"]),
        ("Jaderberg(2,once)", ["Jaderberg(2,once)", "relu", "once"]),
        ("DeepRoots(N)", ["DeepRoots(N)", "g", "N", "whole number"]),
        ("AlexNet", ["AlexNet", "Xception = XCEP"]),
        ("GEQ(p5)", ["p5", "p4", "p4m"]),
        ("G(4),", ["G(4),", "not a valid block"]),
        (4, ["4", "not a valid block"]),
        (None, ["None", "not a valid block"]),
    ],
)
def test_unreadable_blocks_say_what_is_allowed(text, message):
    with pytest.raises(MoonshineError, match=naming(*message)):
        parse_block(text)


def test_fractions_are_exact():
    assert parse_block("E2(1,1/3,p4)").values[1] == Fraction(1, 3)
    assert parse_block("E2(1,0.1,p4)").values[1] == Fraction(1, 10)
