"""Fitting a block: exact where it can be, never worse than the start, and a forward pass that ends early."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from moonshine.distillation.block_fit import Part, RecordedCall, fit, run_to
from moonshine.substitution.replacement import apply, find_changes
from tests.moonshine.residual_blocks import make_block


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lone_part(block):
    """A block for a convolution with a bias that looks at single pixels, with inputs of it above 0."""
    torch.manual_seed(0)
    teacher = nn.Conv2d(6, 4, 3, padding=1)
    with torch.no_grad():
        centre = teacher.weight[:, :, 1, 1].clone()
        teacher.weight.zero_()
        teacher.weight[:, :, 1, 1] = centre
    student = nn.Sequential(copy.deepcopy(teacher))
    apply(student, find_changes(student, {"0": block}))
    replacement: Any = student.eval()[0]
    calls = [
        RecordedCall((maps,), {}, (teacher(maps).detach(),))
        for maps in (noise(8, 6, 5, 5, seed=seed).abs() for seed in (1, 2))
    ]
    return Part(replacement, (replacement,), ((replacement[-1], teacher),)), calls


def test_a_convolution_that_is_a_1x1_is_fitted_exactly():
    part, calls = lone_part("G(1)")
    nn.init.dirac_(part.module.get_parameter("conv1.weight"))
    nn.init.constant_(
        part.module.get_parameter("norm2.bias"), 10.0
    )  # nothing is below 0: the ReLU does nothing
    before, after = fit(part, calls[:1], calls[1:])
    assert before > 0.5
    assert after < 1e-5


def test_a_block_with_the_teachers_own_last_layer_lost_finds_it_again():
    torch.manual_seed(0)
    teacher: Any = make_block("B(2)", 8, 16, stride=2).eval()
    maps = noise(12, 8, 6, 6)
    last = teacher.branch.conv3
    anything = RecordedCall((maps,), {}, (noise(12, 16, 3, 3, seed=1),))
    fit(
        Part(teacher, (teacher.branch,), ((last, last),)), [anything], [anything]
    )  # for the batch's statistics
    student = copy.deepcopy(teacher)
    nn.init.normal_(student.branch.conv3.weight)
    call = RecordedCall((maps,), {}, (run_to(teacher, [maps], {}, [last])[0][1].detach(),))
    before, after = fit(Part(student, (student.branch,), ((student.branch.conv3, last),)), [call], [call])
    assert before > 1
    assert after < 1e-5
    torch.testing.assert_close(student.branch.conv3.weight, last.weight, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(student(maps), teacher(maps), rtol=1e-3, atol=1e-4)


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("steps", [0, 3])
def test_a_fit_that_does_not_improve_is_not_kept(steps):
    part, (call, _) = lone_part("B(2)")
    fit(part, [call], [call])
    with torch.no_grad():
        perfect = RecordedCall(call.args, {}, (part.module(*call.args),))
    before = state(part.module)
    assert fit(part, [perfect], [perfect], steps) == (0.0, 0.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in part.module.state_dict().items())


def test_steps_begin_at_the_solution_and_go_below_it():
    errors = []
    for steps in (0, 40):
        part, calls = lone_part("G(2)")
        errors.append(fit(part, calls[:1], calls[1:], steps))
    (start, solved), (start_again, stepped) = errors
    assert start == start_again
    assert stepped < 0.8 * solved < solved < start
    assert all(parameter.grad is None for parameter in part.module.parameters())
    assert not any(layer.training for layer in part.module.modules())


def test_targets_that_are_not_finite_leave_the_start():
    part, (call, _) = lone_part("G(2)")
    broken = RecordedCall(call.args, {}, (call.targets[0] * math.nan,))
    weights = part.layer_pairs[-1][0].weight.detach().clone()
    assert fit(part, [broken], [broken], 2) == (math.inf, math.inf)
    assert torch.equal(part.layer_pairs[-1][0].weight, weights)


def test_a_module_that_writes_into_its_input_spoils_no_call():
    part, (call, _) = lone_part("G(2)")
    writing = nn.Sequential(nn.ReLU6(inplace=True), part.module).eval()
    part = Part(writing, part.layers, part.layer_pairs)
    maps = call.args[0].mul_(10).clone()
    fit(part, [call], [call], steps=1)
    assert torch.equal(call.args[0], maps)


def test_a_pass_ends_at_the_last_layer_watched():
    ran = []
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 3, 1), nn.ReLU())
    net[3].register_forward_hook(lambda *_: ran.append(3))
    x = noise(1, 1, 2, 2)
    with torch.no_grad():
        (_, first), (second_input, second) = run_to(net, [x], {}, [net[0], net[2]])
        assert torch.equal(first, net[0](x))  # although the ReLU wrote over it
        assert torch.equal(second_input, first.relu())
        assert torch.equal(second, net[2](first.relu()))
    assert ran == []
    assert run_to(net, [x], {}, [net[0], nn.Conv2d(1, 1, 1)])[0][0] is x
    assert ran == [3]
    assert not net[0]._forward_hooks
