"""A network that runs in torch's own memory layout only is trained, evaluated, scored, timed and exported in it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from moonshine import distil
from moonshine.config.augment import Augment
from moonshine.config.methods import Method
from moonshine.config.training import Training
from moonshine.costs.latency import latency
from moonshine.data.store import Dataset, Split
from moonshine.export.writing import write_export
from moonshine.formats.about import About
from moonshine.networks.passes import choose_memory_format
from moonshine.search.fisher import Potentials
from moonshine.search.space import Space
from moonshine.structures.describe import places_of
from moonshine.training.evaluation import predict
from moonshine.training.execution import Execution
from tests.moonshine.odd_networks import Flattening

FLAT = "tests.moonshine.odd_networks:Flattening"
SHAPE = (3, 8, 8)
STRUCTURE, FITTING, REFUSED = places_of(FLAT, {}, 5, SHAPE, ["S", "G(4)"])
KD = Method.model_validate({"kd": {"form": "textbook", "temperature": 4.0, "alpha": 0.9}})


class Pooling(nn.Module):
    """Runs in either layout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x).mean((2, 3)))


def pictures(count: int) -> Split:
    images = torch.randint(256, (count, *SHAPE), generator=torch.Generator().manual_seed(0))
    return Split(images.to(torch.uint8), torch.arange(count) % 5)


DATA = Dataset("noise", pictures(12), pictures(6), pictures(6), (0.5,) * 3, (0.2,) * 3, 5, tuple("abcde"))


@pytest.mark.parametrize(
    ("student", "teacher", "warns"), [(Flattening, Pooling, True), (Pooling, Flattening, False)]
)
def test_it_trains_beside_one_that_runs_in_either(
    student: type[nn.Module],
    teacher: type[nn.Module],
    warns: bool,
    training: Training,
    execution: Execution,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def trained(channels_last: bool) -> Any:
        torch.manual_seed(0)
        made = student()
        here = Execution(execution.device, channels_last=channels_last)
        distil(
            made, teacher(), DATA,
            method=KD, training=training, augment=Augment(crop_padding=0, flip=False), execution=here,
        )  # fmt: skip
        return made, predict(made, DATA.test, DATA, here)

    with caplog.at_level(logging.WARNING, "moonshine"):
        network, classes = trained(True)
    assert ("Flattening runs in torch's default memory layout only" in caplog.text) == warns
    plain, plain_classes = trained(False)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], tensor)
    assert torch.equal(classes, plain_classes)


def test_it_is_timed_and_scored() -> None:
    assert latency(Flattening(), (2, *SHAPE), threads=1, repeats=1) > 0
    space = Space(STRUCTURE, FITTING, REFUSED, SHAPE, FLAT)
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    potentials = Potentials(space, [space.uniform("G(4)")], images, torch.arange(4), seed=0)
    assert potentials.mean(0, 1) > 0


def test_its_files_are_compared_with_it(tmp_path: Path) -> None:
    about = About(SHAPE, (0.5,) * 3, (0.2,) * 3, tuple("abcde"), {}, STRUCTURE)
    exported = write_export(
        Flattening(), tmp_path / "out", about,
        train=DATA.train, test=DATA.test, calibration=2, tolerance=1e-3, formats=["safetensors", "torch-export"],
    )  # fmt: skip
    assert len(exported.receipts) == 2


def test_a_layout_is_that_of_more_than_one_image(execution: Execution) -> None:
    class Joining(Pooling):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.stem(x)
            return self.head(maps.view(len(maps) * 8, -1).mean(1).view(len(maps), 8))

    network = Joining()
    suited = Execution(execution.device, channels_last=True).suiting(network, SHAPE)
    assert not suited.channels_last
    assert latency(network, (2, *SHAPE), threads=1, repeats=1) > 0


def test_a_layout_leaves_modes_statistics_and_random_numbers_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval(), nn.Dropout(), nn.Flatten())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert choose_memory_format(network, torch.ones(1, *SHAPE)) == torch.channels_last
    assert torch.equal(torch.rand(3), expected)
    assert [layer.training for layer in network] == [True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
