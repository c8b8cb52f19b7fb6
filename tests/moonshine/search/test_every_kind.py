"""Every kind of block in a search: the Fisher potential of its own output, and mixtures of all of them."""

import pytest
import torch
from torch.nn import functional

from moonshine.config.networks import Mixed
from moonshine.costs.cost import cost
from moonshine.search.fisher import per_place
from moonshine.search.place_costs import place_costs
from moonshine.search.search import search
from moonshine.search.space import Space
from moonshine.structures.build import build, residual_blocks
from moonshine.structures.describe import places_of
from tests.moonshine.blocks.examples import ONE_OF_EACH

MIXED = ("S", "G(4)", "BG(2,M/4)", "SHUF(2,4)", "FIRE(4)", "D3", "SBOT(2)", "TT(2)", "GEQ(p4m)")
SHAPE = (3, 8, 8)
NETS = "tests.moonshine.odd_networks"


def batch(images=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, *SHAPE, generator=generator), torch.arange(images)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("block", ONE_OF_EACH.values())
def test_the_potential_is_that_of_the_output_of_the_block(block):
    """The output is the residual sum less the shortcut, whatever the block consists of; their gradients are one."""
    torch.manual_seed(1)
    network = build("wrn-10-1", block).train()
    paths = residual_blocks("wrn-10-1")
    images, labels = batch()
    found = per_place(network, images, labels, paths)
    sums: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}

    def keep(place, path):
        def hook(_module, args, total):
            with torch.no_grad():
                y = functional.relu(place.norm1(args[0]))
                outputs[path] = total - (args[0] if place.shortcut is None else place.shortcut(y))
            total.retain_grad()
            sums[path] = total

        return hook

    for path in paths:
        network.get_submodule(path).register_forward_hook(keep(network.get_submodule(path), path))
    functional.cross_entropy(network(images), labels).backward()
    for path in paths:
        gradient = sums[path].grad
        assert gradient is not None
        products = (outputs[path] * gradient).sum((2, 3))
        assert found[path] == pytest.approx(products.square().sum().item() / (2 * len(images)), rel=1e-3)


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet-10-0.25", "erfnet-0.25", f"{NETS}:Dense"])
def test_a_mixture_of_many_kinds(name):
    """What does not fit at a place is left out there, with the reason; what is chosen costs what was planned."""
    structure, fitting, refused = places_of(name, {}, 5, SHAPE, MIXED, dense=None)
    space = Space(structure, fitting, refused, SHAPE, name)
    for path, blocks in fitting.items():
        assert sorted([*blocks, *refused.get(path, {})]) == sorted(MIXED)
    assert all("allowed" in reason for each in refused.values() for reason in each.values())
    known = place_costs(space)
    images, labels = batch()
    if name.endswith(("Dense", "erfnet-0.25")):
        labels = labels[:, None, None].expand(-1, *SHAPE[1:])
    settings = {"budget": "9M params", "window": 1, "candidates": 4, "best": 1, "initialisations": 1}
    found = search(space, Mixed.model_validate(settings), images, labels, known=known)
    assert found.candidates == 4
    for winner in found.winners.values():
        real = cost(space.build(winner.blocks), SHAPE)
        assert (winner.parameters, winner.macs) == (real.parameters, real.macs)
        assert winner.fisher > 0
