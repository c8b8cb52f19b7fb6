"""What a module costs inside the forward pass of its network."""

import pytest
import torch
from torch import nn

from moonshine.costs.cost import cost
from moonshine.costs.metering import ModuleCost, module_costs
from moonshine.errors import MoonshineError
from moonshine.structures.build import build, residual_blocks
from tests.messages import naming

FLOAT = 4


@pytest.mark.parametrize("block", ["S", "G(4)", "B(2)"])
def test_parts_add_up_to_the_whole(block):
    network = build("wrn-16-1", block)
    whole = cost(network, (3, 20, 24))
    found = module_costs(network, (3, 20, 24), residual_blocks("wrn-16-1"))
    assert set(found) == {"", *residual_blocks("wrn-16-1")}
    assert sum(part.macs for part in found.values()) == whole.macs
    assert max(part.peak_activation_bytes for part in found.values()) == whole.peak_activation_bytes
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())


def test_by_hand():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(200, 7))
    # A Sequential holds its input throughout, and of the rest what enters and leaves one layer.
    # What runs outside starts while the module that has just run still holds its input.
    outside = ModuleCost(100 * 3 + 200 * 7, 100 * (1 + 3 + 2) * FLOAT)
    assert module_costs(network, (1, 10, 10), ["1"]) == {
        "": outside,
        "1": ModuleCost(100 * 3 * 2, 100 * (1 + 3 + 2) * FLOAT),
    }
    first = module_costs(network, (1, 10, 10), ["0"])
    assert first["0"] == ModuleCost(100 * 3, 100 * (1 + 3) * FLOAT)
    whole = ModuleCost(100 * 3 + 100 * 6 + 200 * 7, 600 * FLOAT)
    assert module_costs(network, (1, 10, 10), []) == {"": whole}


def test_modules_that_run_twice_or_never():
    layer = nn.Conv2d(2, 2, 1, bias=False)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.spare = layer, nn.Conv2d(2, 2, 1)

        def forward(self, x):
            return self.layer(self.layer(x))

    found = module_costs(Twice(), (2, 3, 5), ["layer", "spare"])
    assert (found["layer"].macs, found["spare"], found[""].macs) == (2 * 15 * 4, ModuleCost(0, 0), 0)


def test_what_is_no_module_is_refused():
    with pytest.raises(MoonshineError, match=naming("stage9", "module", "WideResNet")):
        module_costs(build("wrn-10-1"), (3, 32, 32), ["stage1.0", "stage9"])
    with pytest.raises(MoonshineError, match=naming("1x32x32")):
        module_costs(build("wrn-10-1"), (1, 32, 32), ["stage1.0"])
