"""The search over a small space."""

import json

import pytest
import torch

from moonshine.config.networks import Mixed
from moonshine.errors import MoonshineError
from moonshine.search.fisher import fisher_potential
from moonshine.search.place_costs import place_costs
from moonshine.search.search import search
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from moonshine.structures.structure import SearchRecord
from tests.messages import naming

SHAPE = (3, 8, 8)
SPACE = Space(*places_of("wrn-10-1", {}, 10, SHAPE, ("S", "G(4)", "G(N)", "B(2)")), SHAPE)
KNOWN = place_costs(SPACE)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, *SHAPE, generator=generator), torch.tensor([1, 2, 3, 4, 5, 6])


def mixed(**settings):
    defaults = {
        "budget": "40k params",
        "candidates": 8,
        "best": 3,
        "initialisations": 2,
        "batch_size": 4,
        "window": 0.6,
    }
    return Mixed.model_validate({**defaults, **settings})


def potential(blocks, seed):
    torch.manual_seed(seed)
    images, labels = batch()
    return fisher_potential(SPACE.build(blocks), images[:4], labels[:4], SPACE.places)


def test_the_best_of_the_candidates_is_chosen():
    calls = []
    found = search(SPACE, mixed(seed=3), *batch(), known=KNOWN, progress=lambda *call: calls.append(call))
    assert found.candidates == 8
    assert found.chosen.blocks == found.winners["fisher"].blocks
    assert set(found.winners) == {"fisher", "parameters", "macs", "random"}
    for winner in found.winners.values():
        assert winner.parameters == sum(p.numel() for p in SPACE.build(winner.blocks).parameters())
        assert winner.parameters <= 40_000
        assert winner.macs == KNOWN.of("macs", winner.blocks)
        assert winner.initialisations == 2
        expected = (potential(winner.blocks, 3) + potential(winner.blocks, 4)) / 2
        assert winner.fisher == pytest.approx(expected, rel=1e-4)
    assert found.winners["parameters"].parameters == max(w.parameters for w in found.winners.values())
    assert found.winners["macs"].macs == max(w.macs for w in found.winners.values())
    assert found.window == (16_000, 40_000)
    assert (found.measure, found.widened) == ("parameters", False)
    assert set(found.spearman) == {"parameters", "macs"}
    assert all(-1 <= value <= 1 for value in found.spearman.values() if value is not None)
    # 8 candidates, then 3 of them once more, then winners that are not among these
    assert calls[:11] == [("networks scored", number, 11) for number in range(1, 12)]


def test_one_stage_per_score():
    """With a single initialisation and all of the best, the choice is the largest potential."""
    found = search(SPACE, mixed(initialisations=1, candidates=6), *batch(), known=KNOWN)
    others = [winner.fisher for winner in found.winners.values()]
    assert found.chosen.fisher == max(others)


def test_it_is_deterministic_and_plain_data():
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = search(SPACE, mixed(seed=1), *batch(), known=KNOWN)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    assert search(SPACE, mixed(seed=1), *batch()) == first
    assert search(SPACE, mixed(seed=2), *batch(), known=KNOWN) != first
    assert SearchRecord.model_validate_json(json.dumps(first.content(), allow_nan=False)) == first


@pytest.mark.parametrize("score", ["parameters", "macs", "random"])
def test_the_plain_scores(score):
    found = search(SPACE, mixed(score=score), *batch(), known=KNOWN)
    fisher = search(SPACE, mixed(), *batch(), known=KNOWN)
    assert found.chosen.blocks == fisher.winners[score].blocks
    assert found.chosen == fisher.winners[score]
    assert "fisher" not in found.winners
    assert found.spearman == {"parameters": None, "macs": None}


def test_finalists():
    """The lowest error wins, of equal ones the better score; what diverges does not."""
    seen = []

    def error(blocks):
        seen.append(blocks)
        return [float("nan"), 20.0, 20.0][len(seen) - 1]

    finalists = {"count": 3, "epochs": 1, "batch_size": 8, "lr": 0.1}
    found = search(SPACE, mixed(finalists=finalists), *batch(), finalist=error, known=KNOWN)
    assert seen[0] == found.winners["fisher"].blocks
    assert [candidate.blocks for candidate in found.finalists] == seen
    assert found.chosen.blocks == seen[1]
    assert found.chosen == found.finalists[1]
    assert (found.chosen.error, found.finalists[0].error, found.winners["fisher"].error) == (20.0, None, None)
    with pytest.raises(MoonshineError, match="finalists: found no function"):
        search(SPACE, mixed(finalists=finalists), *batch(), known=KNOWN)


def test_a_budget_on_exported_files():
    """A made-up exporter whose files have four bytes for a parameter and some for every module."""
    exported = []

    def size(network, measure):
        assert measure == "onnx"
        parameters = sum(parameter.numel() for parameter in network.parameters())
        exported.append(4 * parameters + 90 * len(list(network.modules())) + 2000)
        return exported[-1]

    settings = {"budget": ["150kB onnx", "1MB"], "window": 0.3}
    found = search(SPACE, mixed(**settings), *batch(), size=size, known=KNOWN)
    assert found.measure == "onnx"
    assert all(size(SPACE.build(winner.blocks), "onnx") <= 150_000 for winner in found.winners.values())
    assert size(SPACE.build(found.chosen.blocks), "onnx") > 100_000
    assert len(exported) < 8 + 3 * len(found.winners) + 5
    with pytest.raises(MoonshineError, match=naming("150kB onnx", "exporter")):
        search(SPACE, mixed(**settings), *batch(), known=KNOWN)
    with pytest.raises(MoonshineError, match=naming("budget 1kB onnx", "smallest", "MB")):
        search(SPACE, mixed(budget="1kB onnx"), *batch(), size=size, known=KNOWN)


def test_exports_that_never_fit():
    """Five networks that differ and two near the limit are estimated right; every file looked at later is larger."""
    calls = []

    def size(network, measure):
        calls.append(measure)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        return 4 * parameters + (10**6 if len(calls) > 7 else 0)

    with pytest.raises(MoonshineError, match=naming("budget 150kB onnx", "8 of 8 candidates")):
        search(SPACE, mixed(budget="150kB onnx"), *batch(), size=size, known=KNOWN)


def test_an_impossible_budget_costs_no_forward_pass():
    def never(*_):
        raise AssertionError("a potential was computed")

    with pytest.raises(MoonshineError, match=naming("budget 1k params", "smallest")):
        search(SPACE, mixed(budget="1k params"), *batch(), known=KNOWN, progress=never)


def test_a_block_that_costs_more_than_it_replaces_is_never_drawn():
    """G(1) is the ordinary convolution and a 1x1 behind it."""
    space = Space(*places_of("wrn-10-1", {}, 10, SHAPE, ("S", "G(1)", "B(2)")), SHAPE)
    assert "G(1)" in space.fitting["stage1.0"]
    found = search(space, mixed(budget="1MB", candidates=100, window=1.0, score="random"), *batch())
    assert found.candidates == 2 * 3 * 3  # where it leads to more channels, it does save something
    assert all(winner.blocks["stage1.0"] != "G(1)" for winner in found.winners.values())
