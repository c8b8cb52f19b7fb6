"""Warm start: what is copied, what is fitted, what is left alone."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from moonshine.blocks.registry import parse_block
from moonshine.config.networks import WarmStart
from moonshine.distillation import warm_start as module
from moonshine.distillation.least_squares import is_solvable
from moonshine.distillation.warm_places import find_fitted_place
from moonshine.distillation.warm_start import warm_start
from moonshine.errors import MoonshineError
from moonshine.structures.build import build, residual_blocks
from moonshine.substitution.replacement import apply, find_changes
from moonshine.substitution.substitute import substitute
from tests.messages import naming

SOLVE = WarmStart(fit="least-squares", batches=2)
TINY = "resnet-10-0.0625"  # 8, 8, 16 and 32 channels
DENSE = "erfnet-0.25"  # 16, 32, 16 and 4 channels
IMAGES = [torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
SMALL = [images[:, :, :12, :12] for images in IMAGES]


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(name, block="S", seed=0) -> Any:
    torch.manual_seed(seed)
    return build(name, block, num_classes=4)


def lived_in(teacher, images):
    """A teacher whose batch norms have seen images, in eval mode."""
    torch.manual_seed(1)
    for layer in teacher.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    with torch.no_grad():
        for batch in images:
            teacher.train()(batch)
    return teacher.eval()


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_a_student_of_ordinary_blocks_becomes_its_teacher():
    for name, images in (("wrn-10-1", SMALL), (TINY, IMAGES)):
        teacher, student = lived_in(network(name), images), network(name, seed=1)
        done = warm_start(student, teacher, dict.fromkeys(residual_blocks(name), "S"), images, SOLVE)
        assert (set(done.copied), done.fits) == (set(teacher.state_dict()), {})
        with torch.no_grad():
            assert torch.equal(student.eval()(images[0]), teacher(images[0]))


@pytest.mark.parametrize("block", ["G(4)", "B(2)", "BG(2,M)"])
@pytest.mark.parametrize(("name", "images"), [("wrn-10-1", SMALL), (TINY, IMAGES), (DENSE, IMAGES)])
def test_every_block_comes_nearer_to_its_teachers(name, images, block):
    teacher, student = lived_in(network(name), images), network(name, block, seed=1)
    done = warm_start(student, teacher, dict.fromkeys(residual_blocks(name), block), images, SOLVE)
    assert list(done.fits) == list(residual_blocks(name))
    assert all(fit.after < min(0.95, 0.9 * fit.before) for fit in done.fits.values())
    assert str(done).startswith(
        f"{len(done.copied)} tensors copied; relative error of {residual_blocks(name)[0]} "
    )


@pytest.mark.parametrize("block", ["D2x2", "FIRE(4)", "LRE(2)", "SHUF(2,2)", "TT(4)"])
@pytest.mark.parametrize(
    ("name", "images", "place"),
    [
        ("wrn-10-1", SMALL, "stage2.0"),
        ("resnet-10-0.25", IMAGES, "layer2.0"),
        ("erfnet-0.5", IMAGES, "stage1.1"),
    ],
)
def test_blocks_without_a_1x1_at_their_end_are_fitted_by_steps(name, images, place, block):
    teacher = network(name).eval()
    blocks = dict.fromkeys(residual_blocks(name), "S") | {place: block}
    student = network(name, blocks, seed=1)
    before = state(student)
    with pytest.raises(MoonshineError, match=rf"{re.escape(block)} at {place} ends in none; allowed: steps"):
        warm_start(student, teacher, blocks, images, SOLVE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    (fit,) = warm_start(
        student, teacher, blocks, images, WarmStart(fit="steps", batches=2, steps=10)
    ).fits.values()
    assert fit.after < 0.97 * fit.before


def test_fitted_blocks_give_nearly_the_teachers_block():
    """The promise of a fit, seen from outside: block by block, on the teacher's inputs."""
    teacher = lived_in(network("wrn-10-1"), SMALL)
    cold, warm = network("wrn-10-1", "G(4)", seed=1).eval(), network("wrn-10-1", "G(4)", seed=1).eval()
    warm_start(warm, teacher, dict.fromkeys(residual_blocks("wrn-10-1"), "G(4)"), SMALL, SOLVE)
    x = SMALL[0]
    with torch.no_grad():
        for path in residual_blocks("wrn-10-1"):
            x = teacher.stem(x) if path == "stage1.0" else x
            wanted = teacher.get_submodule(path)(x)
            distances = [(net.get_submodule(path)(x) - wanted).norm() for net in (warm, cold)]
            assert distances[0] < 0.9 * distances[1]
            x = wanted


@pytest.mark.parametrize(
    ("name", "images", "block", "share"),
    [("wrn-10-1", SMALL, "B(2)", 0.97), (DENSE, IMAGES, "G(4)", 0.99), (DENSE, IMAGES, "B(2)", 0.99)],
)
def test_steps_come_nearer_than_the_solution(name, images, block, share):
    teacher = lived_in(network(name), images)
    places = residual_blocks(name)
    blocks = dict.fromkeys(places, "S") | dict.fromkeys(places[-3:], block)
    errors = []
    for warm in (SOLVE, WarmStart(fit="steps", batches=2, steps=25)):
        student = network(name, blocks, seed=1)
        done = warm_start(student, teacher, blocks, images, warm)
        errors.append([fit.after for fit in done.fits.values()])
        assert all(parameter.grad is None for parameter in student.parameters())
    assert all(stepped < share * solved for solved, stepped in zip(*errors, strict=True))


def test_what_wide_residual_networks_share():
    teacher = lived_in(network("wrn-10-1"), SMALL)
    blocks = {"stage1.0": "G(1)", "stage2.0": "S", "stage3.0": "G(1)"}
    student = network("wrn-10-1", blocks, seed=1)
    done = warm_start(student, teacher, blocks, SMALL, SOLVE)
    names = set(teacher.state_dict())
    assert set(done.copied) == {
        name for name in names if not name.startswith(("stage1.0.branch.", "stage3.0.branch."))
    }
    assert {"stage1.0.norm1.running_var", "stage3.0.shortcut.weight", "head.bias"} <= set(done.copied)
    for name in done.copied:
        assert torch.equal(student.state_dict()[name], teacher.state_dict()[name])
    # branch.conv1 is a 3x3 of equal shape in both, but only half of what stands for the teacher's
    assert student.stage1[0].branch.conv1.weight.shape == teacher.stage1[0].branch.conv1.weight.shape
    assert not torch.equal(student.stage1[0].branch.conv1.weight, teacher.stage1[0].branch.conv1.weight)


def test_what_resnets_share():
    """B(1) leaves the norm between the convolutions as wide as it was, yet inside the new unit; G keeps its role."""
    teacher = lived_in(network(TINY), IMAGES)
    blocks = {"layer1.0": "G(4)", "layer2.0": "B(1)", "layer3.0": "B(2)", "layer4.0": "S"}
    student = network(TINY, blocks, seed=1)
    done = warm_start(student, teacher, blocks, IMAGES, SOLVE)
    kept = {f"layer{i}.0.{name}" for i in (1, 2, 3) for name in ("conv1.weight", "conv2.weight")}
    for norm in ("layer2.0.bn1", "layer3.0.bn1"):
        kept |= {name for name in teacher.state_dict() if name.startswith(norm)}
    assert set(done.copied) == set(teacher.state_dict()) - kept
    assert torch.equal(student.layer1[0].bn1.weight, teacher.layer1[0].bn1.weight)
    assert not torch.equal(student.layer1[0].bn1.running_mean, teacher.layer1[0].bn1.running_mean)
    assert torch.equal(student.layer3[0].bn2.running_mean, teacher.layer3[0].bn2.running_mean)
    assert set(done.fits) == {"layer1.0", "layer2.0", "layer3.0"}


def test_what_erfnets_share():
    """Their branches are numbered: what has a number in both is another layer. The norm before the sum is shared."""
    teacher = lived_in(network(DENSE), IMAGES)
    blocks = dict.fromkeys(residual_blocks(DENSE), "S") | {"stage1.0": "G(1)", "stage2.1": "B(1)"}
    student = network(DENSE, blocks, seed=1)
    done = warm_start(student, teacher, blocks, IMAGES, SOLVE)
    new = ("stage1.0.branch.", "stage2.1.branch.")
    assert set(done.copied) == {name for name in teacher.state_dict() if not name.startswith(new)}
    assert {"stage1.0.norm.running_var", "stage1.1.branch.0.weight", "head.bias"} <= set(done.copied)
    # a 3x1 of equal shape in both, but only a part of what stands for the teacher's
    assert not torch.equal(student.stage1[0].branch[0].weight, teacher.stage1[0].branch[0].weight)
    statistics = [
        layer.running_mean for layer in student.stage1[0].branch if isinstance(layer, nn.BatchNorm2d)
    ]
    assert len(statistics) == 3
    assert all(mean is not None and mean.any() for mean in statistics)


@pytest.mark.parametrize(("block", "ends"), [("G(4)", ["5", "13"]), ("B(2)", ["8"])])
def test_each_half_of_an_erfnets_block_is_fitted_to_a_pair_of_its_teachers(block, ends):
    teacher, student = network(DENSE), network(DENSE, block)
    path = "stage2.3"  # dilated
    place = find_fitted_place(student, teacher, path, parse_block(block))
    ours, theirs = (net.get_submodule(f"{path}.branch") for net in (student, teacher))
    wanted = ["2", "7"][-len(ends) :]
    assert place.part.layer_pairs == tuple(
        (ours.get_submodule(mine), theirs.get_submodule(other))
        for mine, other in zip(ends, wanted, strict=True)
    )
    assert all(is_solvable(mine) and mine.bias is not None for mine, _ in place.part.layer_pairs)
    assert (place.part.layers, place.new) == ((ours,), (f"{path}.branch",))


def plain_network():
    """No batch norm, no residual sum: convolutions with biases, and activations that write over their input."""
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in ((3, 8), (8, 8), (8, 16)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


@pytest.mark.parametrize("block", ["G(4)", "B(2)"])
def test_lone_convolutions(block):
    teacher = plain_network().eval()
    student = substitute(teacher, block, input_shape=(3, 12, 12))
    for parameter in student.parameters():
        nn.init.normal_(parameter, std=0.3)
    done = warm_start(student, teacher, {"2": block, "4": block}, SMALL, SOLVE)
    assert set(done.copied) == {"0.weight", "0.bias", "8.weight", "8.bias"}
    assert all(fit.after < 0.8 * fit.before for fit in done.fits.values())


def test_a_lone_convolution_is_fitted_as_it_was_replaced():
    """Where G(8) replaces one from 8 to 12 channels, its groups are of the 8 alone: 12 cannot be split into 8."""
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.Flatten(), nn.Linear(768, 4)
    )
    student = substitute(teacher.eval(), {"2": "G(8)"}, input_shape=(3, 12, 12))
    fit = warm_start(student, teacher, {"2": "G(8)"}, SMALL, SOLVE).fits["2"]
    assert fit.after < 0.8 * fit.before


def test_torchvisions_resnet():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    teacher = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=4)
    teacher.layer4 = nn.Identity()  # smaller and quicker
    teacher.fc = nn.Linear(256, 4)
    lived_in(teacher, [images[:6] for images in IMAGES])
    student = copy.deepcopy(teacher)
    apply(student, find_changes(student, {"layer1.0": "G(4)", "layer3.0": "BG(2,M)"}))
    done = warm_start(student, teacher, {"layer1.0": "G(4)", "layer3.0": "BG(2,M)"}, IMAGES, SOLVE)
    assert all(fit.after < 0.9 * fit.before for fit in done.fits.values())


def test_the_teacher_is_left_alone_and_the_student_keeps_its_modes():
    teacher, student = lived_in(network("wrn-10-1"), SMALL), network("wrn-10-1", "B(2)", seed=1)
    teacher.stage2.train()
    student.stage1.eval()
    before = state(teacher)
    modes = [layer.training for net in (teacher, student) for layer in net.modules()]
    torch.manual_seed(5)
    random = torch.get_rng_state()
    warm = WarmStart(fit="steps", batches=1, steps=2)
    warm_start(student, teacher, dict.fromkeys(residual_blocks("wrn-10-1"), "B(2)"), SMALL, warm)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert modes == [layer.training for net in (teacher, student) for layer in net.modules()]
    assert torch.equal(random, torch.get_rng_state())
    for net in (teacher, student):
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert {layer.momentum for layer in student.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize(
    "warm", [SOLVE, WarmStart(fit="steps", batches=2, steps=3)], ids=lambda warm: warm.fit
)
def test_the_same_again(warm):
    teacher = lived_in(network("wrn-10-1"), SMALL)
    students = [network("wrn-10-1", "G(4)", seed=1) for _ in range(2)]
    blocks = dict.fromkeys(residual_blocks("wrn-10-1"), "G(4)")
    first, again = (warm_start(student, teacher, blocks, SMALL, warm) for student in students)
    assert first == again
    states = [student.state_dict() for student in students]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_memory_is_bounded_by_fewer_images(monkeypatch):
    teacher = lived_in(network("wrn-10-1"), SMALL)
    sizes = []
    teacher.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    warm_start(network("wrn-10-1", "G(4)"), teacher, {"stage1.0": "G(4)"}, SMALL, SOLVE)
    assert sizes == [1, 12, 12, 4, 4]
    sizes.clear()
    # Per image: the stem's output and, in two halves, the block's.
    monkeypatch.setattr(module, "RECORDED", 3 * 16 * 12 * 12 * 2 * 8)
    warm_start(network("wrn-10-1", "G(4)"), teacher, {"stage1.0": "G(4)"}, SMALL, SOLVE)
    assert sizes == [1, 6, 6, 2, 2]


@pytest.mark.parametrize(
    ("images_that_fit", "sizes"),
    [
        (1, [1, 3, 1]),  # four are held whatever their size
        (6, [1, 5, 1]),  # of one batch, since two would have three each
        (8, [1, 3, 3, 1, 1]),
        (10, [1, 4, 4, 1, 1]),
    ],
)
def test_of_large_maps_some_images_are_still_held_out(monkeypatch, images_that_fit, sizes):
    teacher = lived_in(network("wrn-10-1"), SMALL)
    found = []
    teacher.register_forward_pre_hook(lambda _, args: found.append(len(args[0])))
    monkeypatch.setattr(module, "RECORDED", 3 * 16 * 12 * 12 * images_that_fit)
    warm_start(network("wrn-10-1", "G(4)"), teacher, {"stage1.0": "G(4)"}, SMALL, SOLVE)
    assert found == sizes


@pytest.mark.parametrize(
    ("shape", "images"),
    [((3, 32, 32), 128), ((3, 224, 224), 128), ((3, 512, 1024), 12), ((3, 1024, 2048), 4)],
)
def test_batches_are_smaller_where_images_are_large(shape, images):
    assert module.batch_size(shape) == images


def test_only_as_many_batches_as_asked_for_and_none_of_a_single_image():
    teacher = lived_in(network("wrn-10-1"), SMALL)
    sizes = []
    teacher.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    warm = WarmStart(fit="least-squares", batches=2)
    batches = [SMALL[0][:1], SMALL[0][:3], SMALL[1]]
    done = warm_start(network("wrn-10-1", "G(4)"), teacher, {"stage3.0": "G(4)"}, batches, warm)
    assert sizes == [1, 3]
    assert done.fits["stage3.0"].after < done.fits["stage3.0"].before
    with pytest.raises(MoonshineError, match=naming("batch", "at least one of two images")):
        warm_start(network("wrn-10-1", "G(4)"), teacher, {"stage3.0": "G(4)"}, batches[:1], warm)


@pytest.mark.parametrize(
    ("teacher", "student", "path", "message"),
    [
        (
            "wrn-10-1",
            "wrn-16-1",
            "stage1.1",
            ["teacher", "stage1.1"],
        ),
        ("wrn-16-1", "wrn-10-1", "stage1.1", ["student", "stage1.1"]),
        (
            "wrn-10-2",
            "wrn-10-1",
            "stage2.0",
            ["stage2.0", "16", "32", "64"],
        ),
    ],
)
def test_a_student_of_another_architecture_is_refused_unchanged(teacher, student, path, message):
    ours = network(student, "G(4)")
    before = state(ours)
    with pytest.raises(MoonshineError, match=naming(*message)):
        warm_start(ours, network(teacher), {path: "G(4)"}, SMALL, SOLVE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


def test_a_narrower_network_takes_what_has_the_same_shape():
    teacher, student = lived_in(network("wrn-10-1"), SMALL), network("wrn-10-0.5", seed=1)
    done = warm_start(student, teacher, dict.fromkeys(residual_blocks("wrn-10-0.5"), "S"), SMALL, SOLVE)
    assert {"stem.weight", "stage1.0.norm1.weight", "stage1.0.norm1.num_batches_tracked", "head.bias"} <= set(
        done.copied
    )
    assert not any(name.startswith("norm.") for name in done.copied)
