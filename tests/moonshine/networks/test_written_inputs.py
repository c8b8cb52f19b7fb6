"""A network that writes into its input, or into a map of its own, gives what its twin gives that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moonshine.config.methods import Method
from moonshine.config.networks import WarmStart
from moonshine.costs.latency import latency
from moonshine.distillation.objective import distillation
from moonshine.distillation.term import Pair
from moonshine.distillation.warm_start import warm_start
from moonshine.search.fisher import per_place
from moonshine.search.place_latency import measure_latencies
from moonshine.search.space import Space
from moonshine.structures.build import build
from moonshine.structures.describe import places_of
from moonshine.substitution.replacement import apply, find_changes
from moonshine.training.execution import Execution
from moonshine.training.objective import Batch
from tests.moonshine.odd_networks import SHAPE, WritesIntoItsInput

IMAGES = torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 5
BLOCKS = {"body.0": "G(4)", "body.1": "BG(2,2)"}


def network(in_place: bool, seed: int, blocks: dict[str, str] | None = None) -> Any:
    torch.manual_seed(seed)
    made = WritesIntoItsInput(in_place)
    apply(made, find_changes(made, blocks or {}))
    return made


def distilled(in_place: bool) -> Any:
    method = {
        "kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9},
        "at": {"form": "paper", "beta": 10.0},
    }
    student, teacher = network(in_place, 1, BLOCKS), network(in_place, 2)
    execution = Execution(torch.device("cpu"))
    pair = Pair(student, teacher, ("body.0",), tuple(IMAGES.shape[1:]))
    with distillation(pair, Method.model_validate(method), 1, execution) as loss:
        logits, terms = loss(student.train(), Batch(IMAGES.clone(), LABELS, 0, 0))
    sum(terms.values(), torch.zeros(())).backward()
    return {"logits": logits, **terms, "gradient": student.stem.weight.grad}


def warmed(in_place: bool) -> Any:
    student = network(in_place, 1, BLOCKS)
    warm_start(
        student, network(in_place, 2), BLOCKS, [IMAGES.clone()], WarmStart(fit="least-squares", batches=1)
    )
    return student.state_dict()


def potentials(in_place: bool) -> Any:
    images = IMAGES.clone()
    found = [per_place(network(in_place, seed), images, LABELS, list(BLOCKS)) for seed in (1, 2)]
    return {path: torch.tensor([each[path] for each in found]).log() for path in BLOCKS}  # they are small


@pytest.mark.parametrize("give", [distilled, warmed, potentials])
def test_it_gives_what_its_twin_gives(give: Callable[[bool], dict[str, Tensor]]) -> None:
    torch.set_num_threads(1)
    mine, twins = give(True), give(False)
    assert mine.keys() == twins.keys()
    for name, tensor in twins.items():
        torch.testing.assert_close(mine[name], tensor)


def test_each_pass_that_is_timed_gets_the_same_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    made = network(True, 0)
    made.register_forward_pre_hook(lambda module, args: seen.append(float(args[0].abs().max())))
    latency(made, (2, *SHAPE), threads=1, repeats=2)
    places = places_of("tests.moonshine.odd_networks:WritesIntoItsInput", {}, 5, SHAPE, ["S", "G(4)"])
    space = Space(*places, SHAPE)

    def watched(self: Space, blocks: Any) -> nn.Module:
        again = network(True, 0, dict(blocks))
        again.register_forward_pre_hook(lambda module, args: seen.append(float(args[0].abs().max())))
        return again

    monkeypatch.setattr(Space, "build", watched)
    measure_latencies(space, repeats=1)
    assert len(seen) > 8
    assert set(seen) == {0.0}


def test_an_output_that_nobody_writes_into_is_not_copied() -> None:
    """A copy would change the order in which gradients are added, and with it the last bits of a student."""
    from moonshine.distillation.taps import overwritten

    torch.manual_seed(0)
    ours = build("wrn-10-1", "G(4)", 2)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    assert overwritten(ours.train(), ours.taps, IMAGES) == set()
    assert overwritten(network(True, 0), ["body.0", "body.1"], IMAGES) == {"body.0"}
    assert ours.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
