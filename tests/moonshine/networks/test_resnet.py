"""ResNets by name: published sizes, torchvision's weights and outputs, cheap blocks in their residual blocks."""

import pytest
import torch

from moonshine.blocks.build import CheapConvolution
from moonshine.costs.cost import cost
from moonshine.distillation.taps import record
from moonshine.errors import MoonshineError
from moonshine.structures.build import assign, build, from_structure, residual_blocks, to_structure
from tests.messages import naming

TINY = "resnet-18-0.0625"  # 8, 8, 16 and 32 channels


@pytest.mark.parametrize(
    ("name", "block", "parameters", "macs"),
    [
        ("resnet-34", "S", 21_797_672, "3663.76"),
        ("resnet-18", "S", 11_689_512, "1814.07"),
        ("resnet-34", "G(4)", 8_146_600, "1389.38"),
        ("resnet-34", "G(N)", 3_132_520, "553.61"),
        ("resnet-18-0.5", "S", 3_191_976, "905.03"),
    ],
)
def test_published_sizes(name, block, parameters, macs):
    with torch.device("meta"):
        model = build(name, block, num_classes=1000)
    found = cost(model, (3, 224, 224))
    assert (found.parameters, f"{found.macs / 1e6:.2f}") == (parameters, macs)


@pytest.mark.parametrize("depth", ["18", "34"])
def test_torchvision_weights_give_torchvision_outputs(depth):
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = getattr(models, f"resnet{depth}")(num_classes=7).eval()
    for name, buffer in theirs.named_buffers():  # fresh statistics would hide a misplaced batch norm
        if name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    with torch.device("meta"):
        ours = build(f"resnet-{depth}", num_classes=7).eval()
    shapes = [(name, tensor.shape) for name, tensor in theirs.state_dict().items()]
    assert shapes == [(name, tensor.shape) for name, tensor in ours.state_dict().items()]
    ours.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(2, 3, 40, 33)
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))


def test_taps_and_residual_paths_are_module_paths():
    model = build(TINY, num_classes=4)
    assert model.taps == ("layer1", "layer2", "layer3", "layer4")
    assert residual_blocks(TINY) == tuple(f"layer{s}.{i}" for s in (1, 2, 3, 4) for i in (0, 1))
    with record(model, (*model.taps, *residual_blocks(TINY))) as maps:
        logits = model(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 4)
    assert [tuple(maps[tap].shape[1:]) for tap in model.taps] == [
        (8, 16, 16),
        (8, 8, 8),
        (16, 4, 4),
        (32, 2, 2),
    ]


@pytest.mark.parametrize("block", ["G(4)", "B(2)", "BG(2,M/2)"])
def test_cheap_blocks_run_and_keep_the_maps_and_the_rest(block):
    torch.manual_seed(0)
    model, plain = build(TINY, block, in_channels=1), build(TINY, in_channels=1)
    x = torch.randn(2, 1, 32, 32)
    with record(model, model.taps) as maps, record(plain, plain.taps) as plain_maps:
        model(x).square().mean().backward()
        plain(x)
    assert [value.shape for value in maps.values()] == [value.shape for value in plain_maps.values()]
    assert all(parameter.grad is not None for parameter in model.parameters())
    replaced = {name for name, layer in model.named_modules() if isinstance(layer, CheapConvolution)}
    assert replaced == {f"{path}.conv{i}" for path in residual_blocks(TINY) for i in (1, 2)}


def test_mixed_structure_round_trip():
    paths = residual_blocks(TINY)
    blocks = {path: ("S", "G(2)", "BG(2,M)")[index % 3] for index, path in enumerate(paths)}
    structure = to_structure(TINY, blocks, num_classes=5, in_channels=1)
    assert structure.blocks == blocks
    first, again = build(TINY, blocks, 5, 1).eval(), from_structure(structure).eval()
    again.load_state_dict(first.state_dict())
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(first(x), again(x))


def test_a_block_that_does_not_fit_is_found_without_building():
    with pytest.raises(MoonshineError, match=naming("G(16)", "layer1.0", "16 groups", "N = 8")):
        assign(TINY, "G(16)")
    with pytest.raises(MoonshineError, match=naming("resnet-18", "layer1", "layer4.1")):
        assign("resnet-18", {"layer1": "S"})


def test_same_seed_same_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return build(TINY, "B(2)").state_dict()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])
