"""What ``auto`` becomes, and what is refused."""

from __future__ import annotations

import platform
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from moonshine import MoonshineError
from moonshine.config.training import Runtime
from moonshine.training import execution
from moonshine.training.execution import Execution, resolve
from tests.messages import naming

RUNTIME = Runtime(threads=1, device="cpu", channels_last="auto", compile=False)


def test_threads_come_from_the_study() -> None:
    try:
        resolve(RUNTIME.model_copy(update={"threads": 2}), "fp32")
        assert torch.get_num_threads() == 2
    finally:
        resolve(RUNTIME, "fp32")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("given", "workers"), [(None, 2), (0, 0), (5, 5)])
def test_as_many_processes_decode_as_threads_compute_unless_the_study_says_otherwise(
    given: int | None, workers: int
) -> None:
    try:
        assert resolve(RUNTIME.model_copy(update={"threads": 2, "workers": given}), "fp32").workers == workers
    finally:
        resolve(RUNTIME, "fp32")


def test_bf16_is_used_when_asked_for_and_automatically_only_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resolve(RUNTIME, "bf16").dtype == torch.bfloat16
    assert resolve(RUNTIME, "fp32").dtype == torch.float32
    for has in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda has=has: has, raising=False)
        assert resolve(RUNTIME, "auto").dtype == (torch.bfloat16 if has else torch.float32)


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_has_deterministic_kernels_unless_the_study_wants_the_fastest(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    monkeypatch.setattr(execution, "_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda *mode, warn_only: said.append(mode))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    resolve(RUNTIME.model_copy(update={"deterministic": deterministic}), "fp32")
    assert (said, torch.backends.cudnn.benchmark) == ([(deterministic,)], not deterministic)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_feature_maps_come_to_lie_in_huge_pages() -> None:
    # in a process of its own: after other tests the heap may have other gaps to fill
    code = (
        "from moonshine.config.training import Runtime; from moonshine.training.execution import resolve; "
        "resolve(Runtime(threads=1, device='cpu', channels_last='auto', compile=False), 'fp32'); "
        "print(open('/proc/self/smaps').read())"
    )
    regions = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    advised = [
        int(size)
        for size, flags in re.findall(
            r"^Size: +(\d+) kB$.*?^VmFlags:(.*?)$", regions, re.MULTILINE | re.DOTALL
        )
        if "hg" in flags.split()
    ]
    assert sum(advised) > 900_000


def test_the_memory_layout_can_be_fixed() -> None:
    assert resolve(RUNTIME, "fp32").memory_format == torch.channels_last
    fixed = resolve(RUNTIME.model_copy(update={"channels_last": False}), "fp32")
    assert fixed.memory_format == torch.contiguous_format


def test_autocast_gives_bf16_inside_and_fp32_outside() -> None:
    layer = torch.nn.Linear(4, 4)
    with Execution(torch.device("cpu"), torch.bfloat16).autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    with Execution(torch.device("cpu")).autocast():
        assert layer(torch.ones(1, 4)).dtype == torch.float32


def test_a_gpu_that_is_not_there_is_refused() -> None:
    index = torch.cuda.device_count()
    with pytest.raises(MoonshineError, match=naming("runtime.device", f"cuda:{index}", "auto", "cpu")):
        resolve(RUNTIME.model_copy(update={"device": f"cuda:{index}"}), "fp32")


@pytest.mark.parametrize(("size", "dtype"), [(4, torch.bfloat16), (2, torch.float32)])
def test_a_cpu_computes_strides_over_its_input_in_fp32(size: int, dtype: torch.dtype) -> None:
    """The second convolution gets maps of one pixel from images of two, and steps over them."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, 2, padding=1))
    cpu = Execution(torch.device("cpu"), torch.bfloat16)
    assert cpu.suiting(network, (3, size, size)).dtype == dtype
    assert Execution(torch.device("cpu")).suiting(network, (3, size, size)).dtype == torch.float32


@pytest.mark.parametrize(("dilation", "dtype"), [(8, torch.float32), (4, torch.bfloat16)])
def test_bf16_is_not_used_where_a_kernel_sees_padding_only(dilation: int, dtype: torch.dtype) -> None:
    """As D2x2 does in ERFNet on small images; oneDNN crashes there."""
    network = nn.Conv2d(3, 4, (2, 1), padding=(dilation // 2, 0), dilation=(dilation, 1))
    cpu = Execution(torch.device("cpu"), torch.bfloat16)
    assert cpu.suiting(network, (3, 4, 4)).dtype == dtype
