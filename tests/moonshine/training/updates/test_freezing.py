"""Frozen layers: which they are, and that training leaves every bit of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moonshine.errors import MoonshineError
from moonshine.training.updates.freezing import frozen, frozen_layers
from tests.messages import naming


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
        nn.Flatten(),
        nn.Linear(4 * 16, 2),
    )


@pytest.mark.parametrize(
    ("freeze", "layers"),
    [
        ("stem", ("0", "1")),
        (["2"], ("2.0", "2.1")),
        (["2.1", "stem"], ("0", "1", "2.1")),
        ("*", ("0", "1", "2.0", "2.1")),
        ([], ()),
    ],
)
def test_patterns_and_the_stem_choose_layers_but_never_a_new_head(
    freeze: str | list[str], layers: tuple[str, ...]
) -> None:
    assert frozen_layers(network(), freeze, ["2"], ["4.weight", "4.bias"]) == layers


@pytest.mark.parametrize(
    ("freeze", "said"), [("layer1", ["layer1", "stem", "2.0"]), (["1", "five"], ["five"]), ("*", ["nothing"])]
)
def test_what_cannot_be_frozen_is_one_message(freeze: str | list[str], said: list[object]) -> None:
    with pytest.raises(MoonshineError, match=naming("teacher.finetune.freeze", *said)):
        frozen_layers(network(), freeze, ["2"])


def test_training_leaves_frozen_layers_and_trains_the_others() -> None:
    torch.manual_seed(0)
    made = network()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    with frozen(made, ("0", "1")):
        made.train()(torch.randn(8, 1, 8, 8)).square().sum().backward()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)
    changed = {name for name, tensor in made.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name[0] not in "01"}
    assert all(parameter.requires_grad for parameter in made.parameters())
    assert made.train()[1].training  # type: ignore[index]
    made(torch.randn(8, 1, 8, 8))
    assert not torch.equal(made.state_dict()["1.running_mean"], before["1.running_mean"])
