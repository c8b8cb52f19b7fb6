"""Fisher potential against plain autograd, and what it leaves behind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from moonshine.errors import MoonshineError
from moonshine.search.fisher import fisher_potential, per_place
from moonshine.structures.build import build, residual_blocks
from tests.messages import naming

PATHS = residual_blocks("wrn-10-1")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def batch(count=6, channels=3, size=8, classes=10):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(count, channels, size, size, generator=generator)
    return images, torch.randint(classes, (count,), generator=generator)


def by_hand(network, convolutions, images, labels):
    """The formula in loops, with gradients of everything from autograd."""
    kept: dict[str, torch.Tensor] = {}

    def keep(path, out):
        kept[path] = out * 1
        return kept[path]

    hooks = [
        layer.register_forward_hook(lambda _m, _i, out, path=path: keep(path, out))
        for path, layer in convolutions.items()
    ]
    loss = F.cross_entropy(network.train()(images), labels)
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(loss, list(kept.values()))
    totals = {}
    for (path, activation), gradient in zip(kept.items(), gradients, strict=True):
        count, channels = activation.shape[:2]
        total = 0.0
        for channel in range(channels):
            for n in range(count):
                total += (activation[n, channel] * gradient[n, channel]).sum().item() ** 2 / (2 * count)
        totals[path] = total
    return totals


@pytest.mark.parametrize("blocks", ["S", "G(4)", dict(zip(PATHS, ("BG(2,M)", "B(2)", "G(N)"), strict=True))])
def test_formula(blocks):
    torch.manual_seed(1)
    network = build("wrn-10-1", blocks)
    images, labels = batch()
    modules = dict(network.named_modules())
    lasts = {
        path: modules[max(name for name in modules if name.startswith(f"{path}.branch.conv"))]
        for path in PATHS
    }
    expected = by_hand(network, lasts, images, labels)
    found = per_place(network, images, labels, PATHS)
    assert found == pytest.approx(expected, rel=1e-5)
    assert all(value > 0 for value in found.values())
    assert fisher_potential(network, images, labels, PATHS) == pytest.approx(sum(expected.values()), rel=1e-5)
    assert fisher_potential(network, images, labels, PATHS[1:]) == pytest.approx(
        sum(expected[path] for path in PATHS[1:]), rel=1e-5
    )


def test_golden():
    """One pixel, one channel, two images; labels that make the softmax's gradient +-1/2."""
    layer, head = nn.Conv2d(1, 1, 1, bias=False), nn.Linear(1, 2, bias=False)
    layer.weight.data = torch.ones(1, 1, 1, 1)
    head.weight.data = torch.tensor([[0.0], [1e-9]])
    network = nn.Sequential(layer, nn.Flatten(), head)
    images = torch.tensor([3.0, 5.0]).reshape(2, 1, 1, 1)
    # d loss / d a = (p_1 - y_1) * w_1 / 2 with p = 1/2, so a g = 3 * 1e-9 / 4 and -5 * 1e-9 / 4
    expected = ((3e-9 / 4) ** 2 + (5e-9 / 4) ** 2) / 4
    assert fisher_potential(network, images, torch.tensor([0, 1]), ["0"]) == pytest.approx(expected, rel=1e-4)


def test_activations_that_are_overwritten_in_place():
    """Behind the second convolution acts an in-place ReLU, as in torchvision's VGG without batch norm."""
    torch.manual_seed(2)
    layers = [
        nn.Conv2d(3, 4, 3),
        nn.ReLU(True),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(True),
        nn.Flatten(),
        nn.Linear(80, 10),
    ]
    network = nn.Sequential(*layers)
    images, labels = batch()
    expected = by_hand(network, {"0": network[0], "2": network[2]}, images, labels)
    assert per_place(network, images, labels, ["0", "2"]) == pytest.approx(expected, rel=1e-5)


def test_what_it_leaves_behind():
    network = build("wrn-10-1").eval()
    network.get_parameter("stem.weight").requires_grad_(False)
    images, labels = batch()
    with torch.no_grad():
        first = fisher_potential(network, images, labels, PATHS)
    assert first == fisher_potential(network, images, labels, PATHS)
    assert not network.training
    assert not images.requires_grad
    wanted = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
    assert wanted == ["stem.weight"]
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_the_memory_layout_changes_rounding_only():
    torch.manual_seed(3)
    network = build("wrn-10-1", "G(4)")
    images, labels = batch()
    plain = fisher_potential(network, images, labels, PATHS)
    last = network.to(memory_format=torch.channels_last)
    assert fisher_potential(
        last, images.contiguous(memory_format=torch.channels_last), labels, PATHS
    ) == pytest.approx(plain, rel=1e-4)


def test_what_has_no_potential():
    network = build("wrn-10-1")
    images, labels = batch()
    with pytest.raises(MoonshineError, match=naming("Fisher", "nan", "stage1.0", "finite")):
        fisher_potential(network, images * torch.inf, labels, PATHS)

    class Idle(nn.Sequential):
        def forward(self, x):
            return self[0](x).flatten(1)

    with pytest.raises(MoonshineError, match=naming("logits", "1")):
        fisher_potential(Idle(nn.AvgPool2d(2), nn.Conv2d(3, 3, 3)), images, labels, ["1"])
