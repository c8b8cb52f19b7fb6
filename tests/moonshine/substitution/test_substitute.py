"""Students of anybody's network: sizes by formula and by golden number, shapes, training, and clear refusals."""

from __future__ import annotations

import copy
import csv
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import moonshine
from moonshine.blocks.build import CheapConvolution
from moonshine.costs.cost import cost
from moonshine.errors import MoonshineError
from moonshine.structures.build import build
from moonshine.substitution.layout import lay_out
from moonshine.substitution.replacement import apply
from moonshine.substitution.substitute import choose, substitute
from tests.messages import names, naming
from tests.moonshine.library_networks import on_cpu, on_meta
from tests.moonshine.odd_networks import (
    NETWORKS,
    SHAPE,
    Hidden,
    Net,
    ReadsWeights,
    Remembers,
    Residual,
    Undecided,
    spatial,
)
from tests.moonshine.residual_blocks import make_block

LINES = (Path(__file__).parents[1] / "wrn_costs.csv").read_text().splitlines()
GOLDEN = [
    row
    for row in csv.DictReader(line for line in LINES if not line.startswith("#"))
    if (row["depth"], row["width"]) == ("40", "2") and row["block"] != "S"
]


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def replaced(module: nn.Module) -> list[str]:
    return [path for path, layer in module.named_modules() if isinstance(layer, CheapConvolution)]


def expected(network: nn.Module, kind: str) -> int:
    """Parameters of the student by the formulas of the paper's Table 1, for G(4) and BG(2,M/8), with batch norms."""
    total = parameters(network)
    for place in lay_out(network).places:
        convs: list[Any] = [network.get_submodule(path) for path in place.convolutions]
        total -= sum(map(parameters, convs))
        if kind == "G":
            for conv in convs:
                n, m, (rows, columns) = conv.in_channels, conv.out_channels, conv.kernel_size
                total += n * n * rows * columns // 4 + n * m + 2 * n + (m if conv.bias is not None else 0)
        else:
            n, m, (rows, columns) = convs[0].in_channels, convs[-1].out_channels, convs[0].kernel_size
            middle = m // 2
            total += n * middle + middle * 8 * rows * columns + middle * m + 2 * middle
            total += m if convs[-1].bias is not None else 0
            # The batch norm before the kxk: the block's own, resized, or a new one.
            total += 2 * middle - 2 * convs[0].out_channels * len(place.norms)
    return total


def test_a_wide_residual_network_becomes_ours_for_every_golden_row() -> None:
    """As `substitute` does it, with the layout found once; 100 classes add 90 outputs of 128 + 1 weights."""
    assert len(GOLDEN) == 56
    sizes = {}
    with torch.device("meta"):
        teacher = build("wrn-40-2")
        layout = lay_out(teacher)
        for block in {row["block"] for row in GOLDEN}:
            student = copy.deepcopy(teacher)
            apply(student, choose(layout, block)[0])
            sizes[block] = parameters(student)
            ours = build("wrn-40-2", block)
            shapes = [sorted(tuple(own.shape) for own in each.parameters()) for each in (student, ours)]
            assert shapes[0] == shapes[1]
    found = [sizes[row["block"]] + (90 * 129 if row["classes"] == "100" else 0) for row in GOLDEN]
    assert found == [int(row["params"]) for row in GOLDEN]


@pytest.mark.parametrize("block", ["G(N/2)", "B(2)", "BG(2,M)"])
def test_multiply_accumulates_are_those_of_our_network(block: str) -> None:
    ours, found = cost(build("wrn-10-1", block)), cost(substitute(build("wrn-10-1"), block))
    assert (found.parameters, found.macs) == (ours.parameters, ours.macs)


@pytest.mark.parametrize(("block", "golden"), [("G(4)", 8_146_600), ("G(N)", 3_132_520)])
def test_resnet34_has_its_published_sizes(block: str, golden: int) -> None:
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        assert parameters(moonshine.substitute(models.resnet34(), block)) == golden


@pytest.mark.parametrize(
    ("name", "places", "pairs", "block"),
    [
        ("torchvision/resnet18", 8, 8, "G(4)"),
        ("torchvision/resnet18", 8, 8, "BG(2,M/8)"),
        ("torchvision/resnet34", 16, 16, "BG(2,M/8)"),
        ("torchvision/resnet50", 16, 0, "G(4)"),
        ("torchvision/wide_resnet50_2", 16, 0, "BG(2,M/8)"),
        ("torchvision/vgg16_bn", 12, 0, "G(4)"),
        ("torchvision/densenet121", 58, 0, "G(4)"),
        ("torchvision/densenet121", 58, 0, "BG(2,M/8)"),
        ("segmentation/fcn_resnet50", 17, 0, "G(4)"),
        ("segmentation/deeplabv3_resnet50", 20, 0, "BG(2,M/8)"),
        ("timm/resnet18", 8, 8, "G(4)"),
        ("timm/seresnet18", 8, 8, "BG(2,M/8)"),
    ],
)
def test_networks_of_libraries(name: str, places: int, pairs: int, block: str) -> None:
    teacher = on_meta(name)
    found = lay_out(teacher).places
    assert (len(found), sum(len(place.convolutions) == 2 for place in found)) == (places, pairs)
    student = substitute(teacher, block)
    assert len(replaced(student)) == places + pairs
    assert parameters(student) == expected(teacher, block[: block.index("(")])
    with torch.no_grad():
        output = on_cpu(student)(torch.zeros(1, 3, 64, 64))
    if name.startswith("segmentation"):
        assert output["out"].shape == (1, 10, 64, 64)
    else:
        assert output.shape == (1, 10)


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v2", "torchvision/regnet_x_400mf"])
def test_a_network_with_nothing_to_swap_says_why(name: str) -> None:
    with pytest.raises(MoonshineError) as error:
        substitute(on_meta(name), "G(4)")
    said = str(error.value)
    assert names(said, "convolution", "G(4)")
    for reason in ("the stem: ", "1x1: ", "already grouped: "):
        assert said.count(reason) == 1
    assert " more" in said
    assert len(said) < 500


def test_where_a_block_fits_nowhere_the_reasons_are_grouped() -> None:
    with pytest.raises(MoonshineError) as error:
        substitute(build("wrn-10-1"), "G(5)")
    said = str(error.value)
    assert said.count("5 groups do not divide N = 16 channels") == 1
    assert "32; allowed" not in said.partition("N = 16")[0]
    assert "stage1.0" in said
    assert "stage3.0" in said


def test_a_block_goes_where_it_fits_and_the_rest_is_listed() -> None:
    network = Net(spatial(8, 12), spatial(12, 16), spatial(16, 8))
    changes, refused = choose(lay_out(network, SHAPE), "G(8)")
    assert [(change.place.path, str(change.plan.block)) for change in changes] == [
        ("body.0", "G(8)"),
        ("body.2", "G(8)"),
    ]
    assert list(refused) == ["body.1"]
    assert "8 groups do not divide N = 12" in refused["body.1"]
    assert replaced(substitute(network, "G(8)")) == ["body.0", "body.2"]


@pytest.mark.parametrize("block", ["G(4)", "B(2)", "BG(2,M/2)"])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_unusual_forward_pass(name: str, block: str) -> None:
    make, places = NETWORKS[name]
    network = make()
    student = substitute(network, block, input_shape=SHAPE)
    assert set(places) <= set(replaced(student))
    assert all(any(path.startswith(place) for place in places) for path in replaced(student))
    x = torch.randn(2, *SHAPE)
    before, after = network(x), student(x)
    if isinstance(before, dict):
        assert {key: value.shape for key, value in before.items()} == {
            key: value.shape for key, value in after.items()
        }
    else:
        assert before.shape == after.shape
    assert {layer.training for layer in student.modules()} == {True}


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_untouched_and_what_stays_keeps_its_weights(training: bool) -> None:
    network = Net(spatial(), Residual(nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(), spatial())))
    network.train(training)
    state = copy.deepcopy(network.state_dict())
    layers = dict(network.named_modules())
    student = substitute(network, "B(2)", input_shape=SHAPE)
    assert dict(network.named_modules()) == layers
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert {layer.training for layer in (*network.modules(), *student.modules())} == {training}
    kept = {key: value for key, value in student.state_dict().items() if key.startswith(("stem", "head"))}
    assert len(kept) == 4
    assert all(torch.equal(value, state[key]) for key, value in kept.items())
    for own in student.parameters():
        own.data.zero_()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())


def test_a_mapping_puts_each_block_at_its_place() -> None:
    network = Net(spatial(), spatial(), Residual(nn.Sequential(spatial(), spatial())))
    student = substitute(network, {"body.0": "G(4)", "body.1": "S", "body.2": "BG-2-M"}, input_shape=SHAPE)
    assert replaced(student) == ["body.0", "body.2.branch.0", "body.2.branch.1"]
    with pytest.raises(MoonshineError, match=naming("include", "exclude", "mapping")):
        substitute(network, {"body.0": "G(4)"}, exclude=["body.1"])
    with pytest.raises(MoonshineError, match=naming("'body.9'", "no place", "body.0, body.1, body.2")):
        substitute(network, {"body.9": "G(4)"})


def test_a_mapping_may_have_patterns_of_which_the_first_that_matches_counts() -> None:
    network = Net(spatial(), spatial(), Residual(nn.Sequential(spatial(), spatial())))
    student = substitute(network, {"body.1": "S", "body.[01]": "G(4)", "*": "B(2)"}, input_shape=SHAPE)
    assert replaced(student) == ["body.0", "body.2.branch.0", "body.2.branch.1"]
    with pytest.raises(MoonshineError, match=naming("body.1, body.2", "Net")):
        substitute(network, {"body.[0]": "G(4)"})


def test_patterns_say_where() -> None:
    network = Net(spatial(), spatial())
    assert replaced(substitute(network, "G(4)", include=["body.1"])) == ["body.1"]
    assert replaced(substitute(network, "G(4)", exclude=(each for each in ["body.1"]))) == ["body.0"]
    with pytest.raises(MoonshineError, match=naming("excluded", "body.0", "body.1")):
        substitute(network, "G(4)", exclude=["body"])


@pytest.mark.parametrize("block", ["G(4)", "B(2)"])
def test_a_student_trains(block: str) -> None:
    torch.manual_seed(0)
    branch = nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(inplace=True), spatial())
    student = substitute(Net(Residual(branch), nn.BatchNorm2d(8), nn.ReLU(inplace=True), spatial()), block)
    y = torch.arange(20) % 5
    x = torch.randn(5, 3, 1, 1)[y] + torch.randn(20, 3, 6, 6)
    losses = []
    for _ in range(15):
        loss = cross_entropy(student(x), y)
        student.zero_grad()
        loss.backward()
        for own in student.parameters():
            own.data -= 0.5 * own.grad  # type: ignore[operator]
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    made = [
        own
        for layer in student.modules()
        if isinstance(layer, CheapConvolution)
        for own in layer.parameters()
    ]
    assert all(own.grad is not None and own.grad.any() for own in made)


def test_a_network_without_an_image_input_needs_no_input_shape() -> None:
    class TwoInputs(Net):
        def forward(self, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
            return self.head((self.body(self.stem(x)) * weight).mean((2, 3)))

    network = TwoInputs(spatial())
    assert substitute(network, "G(4)")(torch.zeros(1, *SHAPE), torch.ones(())).shape == (1, 5)
    with pytest.raises(MoonshineError, match=naming("3x16x16", "weight")):
        substitute(network, "G(4)", input_shape=SHAPE)


def test_code_that_reads_the_weights_is_found_with_an_input_shape() -> None:
    with pytest.raises(MoonshineError, match=naming("weight", "exclude")):
        substitute(ReadsWeights(), "G(4)", input_shape=SHAPE)


def test_a_convolution_that_torch_does_not_know_of_is_found_with_an_input_shape() -> None:
    with pytest.raises(MoonshineError, match=naming("Hidden", "body.0")):
        substitute(Hidden(), "G(4)", input_shape=SHAPE)


def test_a_block_where_a_pass_of_zeros_does_not_come_is_no_mistake() -> None:
    student = substitute(Undecided(), {"body.0": "G(4)", "body.1": "G(4)"}, input_shape=SHAPE)
    assert student(torch.ones(1, *SHAPE)).shape == (1, 5)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weights_that_a_hook_computes_are_copied() -> None:
    network: Any = Net(nn.utils.weight_norm(spatial()), spatial())
    student: Any = substitute(network, "G(4)", input_shape=SHAPE)
    assert replaced(student) == ["body.1"]
    maps = torch.ones(1, 8, 4, 4)
    student.body[0].weight_g.data *= 2
    twice, once = (net.body[0](maps) - net.body[0].bias[:, None, None] for net in (student, network))
    torch.testing.assert_close(twice, 2 * once)


def test_a_network_that_cannot_be_copied() -> None:
    network: Any = Net(spatial())
    network.lock = threading.Lock()
    with pytest.raises(MoonshineError, match=naming("Net", "copied", "_thread.lock")):
        substitute(network, "G(4)")


def test_a_network_that_remembers_its_maps_is_substituted_again_elsewhere() -> None:
    network = Net(Remembers(), spatial())
    with torch.no_grad():
        network(torch.zeros(1, *SHAPE))
    student = substitute(network, "G(4)", input_shape=SHAPE, include=["body.0"])
    assert len(replaced(substitute(student, "G(4)", input_shape=SHAPE))) == 3


@pytest.mark.parametrize("block", ["G(4)", "B(2)", "SHUF(2,2)", "FIRE(4)", "LRE(2)", "D2x2", "TT(2)"])
@pytest.mark.parametrize("of_ours", [True, False])
def test_what_is_in_a_cheap_block_is_no_place(block: str, of_ours: bool) -> None:
    """Also where it is a plain convolution of 3x3, as inside B."""
    pair = nn.Sequential(spatial(), nn.BatchNorm2d(8), nn.ReLU(), spatial())
    network = Net(make_block("S", 8, 8) if of_ours else Residual(pair), spatial())
    student = substitute(network, block, include=["body.0"])
    layout = lay_out(student, SHAPE)
    assert [place.path for place in layout.places] == ["body.1"]
    inner = [path for path in layout.kept if path.startswith("body.0.branch")]
    assert {layout.kept[path] for path in inner} <= {"in a cheap block"}
    assert bool(inner) == (block != "TT(2)")
    if block == "D2x2":  # two 3x3 behind each other, as the place had
        with pytest.raises(MoonshineError, match=naming("body.0", "cheap block", "ordinary")):
            substitute(student, {"body.0": "G(4)"})
