"""How fast the CPU computes a network's convolutions in fp32: what bounds the ratios of benchmarks/throughput.py.

    python benchmarks/convolutions.py [--network resnet-18] [--size 224 224] [--batch 8] [--threads 2] [--block S]

Times every distinct convolution of the network alone, as torch computes it with contiguous and with channels-last
tensors: forward, gradient of the input (not for the images) and gradient of the weights; medians of --repeats after one
to warm up. Printed is each one's rate in GFLOP/s, then the time of all of them, each as often as the network has it,
and for comparison the rate of a product of two 2,048x2,048 matrices. Transposed convolutions are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn

from moonshine.structures.build import build

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
PARTS = ("forward", "input", "weights")


class Convolution(NamedTuple):
    """What decides how long a convolution takes; ``shape`` is that of its input."""

    shape: tuple[int, ...]
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def convolutions(network: nn.Module, images: torch.Tensor) -> Counter[Convolution]:
    """How often the network has each convolution."""
    found: Counter[Convolution] = Counter()

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], _: object) -> None:
        assert isinstance(module, nn.Conv2d)
        assert not isinstance(module.padding, str)
        settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
        found[Convolution(tuple(inputs[0].shape), module.out_channels, *settings)] += 1

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(images)
    return found


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """The median time of a call, after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(case: Convolution, layout: torch.memory_format, repeats: int) -> tuple[float, list[float]]:
    """Operations of one part in units of 10^9, and the seconds of each part; of the images no gradient is taken."""
    channels = case.shape[1]
    images = torch.randn(case.shape).contiguous(memory_format=layout)
    weight = torch.randn(case.out_channels, channels // case.groups, *case.kernel).contiguous(
        memory_format=layout
    )
    settings = (list(case.stride), list(case.padding), list(case.dilation), False, [0, 0], case.groups)
    forward = torch.ops.aten.convolution.default
    backward = torch.ops.aten.convolution_backward.default
    output = forward(images, weight, None, *settings)
    gradient = torch.randn_like(output)
    times = [seconds(lambda: forward(images, weight, None, *settings), repeats)]
    for part in ([True, False, False], [False, True, False]):
        if part[0] and channels == 3:
            times.append(0.0)
            continue
        times.append(
            seconds(lambda part=part: backward(gradient, images, weight, None, *settings, part), repeats)  # type: ignore[misc]
        )
    return 2 * output.numel() * weight[0].numel() / 1e9, times


def main() -> None:
    """Print a row per convolution, then the sums."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet-18")
    parser.add_argument("--block", default="S")
    parser.add_argument("--size", type=int, nargs=2, default=[224, 224], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    images = torch.randn(arguments.batch, 3, *arguments.size)
    cases = convolutions(build(arguments.network, arguments.block), images)
    columns = "".join(f"{layout + ' ' + part:>24}" for layout in LAYOUTS for part in PARTS)
    print(f"{'input, outputs, kernel, stride, dilation, groups':<64}{'times':>6}{columns}   GFLOP/s")
    totals = {layout: [0.0, 0.0, 0.0] for layout in LAYOUTS}
    work, best = [0.0, 0.0, 0.0], 0.0
    for case, times in cases.items():
        row = ""
        for layout, memory_format in LAYOUTS.items():
            operations, found = measure(case, memory_format, arguments.repeats)
            for part, taken in enumerate(found):
                totals[layout][part] += times * taken
                rate = operations / taken if taken else 0.0
                best = max(best, rate)
                row += f"{rate:24.0f}" if taken else f"{'-':>24}"
        for part, taken in enumerate(found):
            work[part] += times * operations if taken else 0.0
        named = (case.shape, case.out_channels, case.kernel, case.stride[0], case.dilation, case.groups)
        print(f"{' '.join(str(value).replace(' ', '') for value in named):<64}{times:>6}{row}")
    for layout, parts in totals.items():
        rates = ", ".join(
            f"{part} {taken:.3f} s ({amount / taken:.0f})"
            for part, taken, amount in zip(PARTS, parts, work, strict=True)
        )
        print(f"{layout}: {rates}; together {sum(parts):.3f} s, {sum(work) / sum(parts):.0f} GFLOP/s")
    side = torch.randn(2048, 2048)
    product = 2 * 2048**3 / 1e9 / seconds(lambda: side @ side, arguments.repeats)
    print(f"fastest of all {best:.0f} GFLOP/s; a product of two 2,048x2,048 matrices {product:.0f}")


if __name__ == "__main__":
    main()
