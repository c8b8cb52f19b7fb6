"""How fast a device is at each work of a study: measured here and remembered, or read from a file."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from moonshine.config.types import Positive, Section, Whole
from moonshine.errors import MoonshineError
from moonshine.files import write_json
from moonshine.measurements import remembered
from workflow.estimating.arithmetic import Kind, Pace
from workflow.estimating.works import Case, Cases, Work

if TYPE_CHECKING:
    from workflow.estimating.timing import Bench

SHOWN = 5
"""Works that an error names."""


class Measured(Section):
    """Seconds that one image of a work takes; ``peak_bytes`` is the GPU memory of its steps."""

    work: Work
    seconds_per_image: Positive
    peak_bytes: Whole | None


class Throughput(Section):
    """What was measured on one device, and how: ``batches`` of ``batch_size`` images, after some that do not count.

    ``tflops``: nothing was, and this is the rate that was assumed.
    """

    device: str
    dtype: str
    threads: Whole
    channels_last: bool
    compile: bool
    torch: str
    batches: Whole
    batch_size: Whole
    measurements: list[Measured]
    tflops: Positive | None = None

    def paces(self, wanted: Mapping[Kind, Cases], source: str) -> dict[Kind, Pace]:
        """The pace of every kind of node; MoonshineError naming ``source`` and what it lacks."""
        seconds = {found.work: found.seconds_per_image for found in self.measurements}
        lacking = {
            f"{student} {kind}" if student != kind else kind: case.work
            for (student, kind), both in wanted.items()
            for case in both
            if case.work not in seconds
        }
        if lacking:
            first = [f"{name} ({work.network}, {work.loss})" for name, work in list(lacking.items())[:SHOWN]]
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            work = next(iter(lacking.values()))
            raise MoonshineError(
                f"{source}: has no measurement of {', '.join(first)}{more} in batches of {work.batch_size} of "
                f"{'x'.join(map(str, work.input_shape))} in precision {work.precision} with {work.optimizer}; allowed: "
                "what `moonshine estimate STUDY --save FILE` writes of this study on the machine it is about"
            )
        return {
            kind: Pace(seconds[both.training.work] if both.training else None, seconds[both.evaluation.work])
            for kind, both in wanted.items()
        }


def images_per_second(seconds_per_image: float) -> str:
    """The rate in words, to at least three digits."""
    rate = 1 / seconds_per_image
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:#.3g}"


def read(path: Path) -> Throughput:
    """A file that ``write`` left; MoonshineError naming it, the key, the value found and what is allowed."""
    try:
        return Throughput.model_validate_json(path.read_bytes())
    except OSError as error:
        raise MoonshineError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise MoonshineError(
            f"{path}: {key}: found {str(first['input'])[:60]!r}: {first['msg']}; allowed: what `moonshine estimate "
            "--save` writes"
        ) from None


def write(path: Path, throughput: Throughput) -> None:
    """Leave it for ``read``, on any machine."""
    write_json(path, throughput.model_dump(mode="json"))


def measure(wanted: Mapping[Kind, Cases], bench: Bench) -> Throughput:
    """Time every distinct work on the bench's device, each once on this machine; standard error says how it goes."""
    import torch

    from workflow.estimating.timing import device_name

    execution = bench.execution
    how: dict[str, Any] = {
        "device": device_name(execution.device),
        "dtype": str(execution.dtype).removeprefix("torch."),
        "threads": bench.study.runtime.threads,
        "channels_last": execution.channels_last,
        "compile": execution.compile,
        "batches": bench.batches,
        "batch_size": bench.batch_size,
    }
    distinct = {case.work: case for both in wanted.values() for case in both}
    measurements = []
    spent: list[float] = []
    for position, (work, case) in enumerate(distinct.items()):
        about = {"what": "training throughput", "work": work.model_dump(mode="json"), **how}
        left = len(distinct) - position - 1
        busy: list[float] = []
        found = remembered(
            about,
            partial(_timed, bench, case, how["device"], left, spent, busy),
            worth_keeping=partial(_is_reliable, bench, busy),
        )
        measurements.append(Measured(work=work, **found))
    return Throughput(**how, torch=str(torch.__version__), measurements=measurements)


def _is_reliable(bench: Bench, busy: list[float], found: dict[str, Any]) -> bool:
    """Whether a process on the CPU had it to itself; one that waits for its GPU is not told from one that has to."""
    from moonshine.costs.latency import RELIABLE

    return bench.execution.device.type != "cpu" or busy[-1] <= RELIABLE


def _timed(
    bench: Bench, case: Case, device: str, left: int, spent: list[float], busy: list[float]
) -> dict[str, Any]:
    """Time a case, and tell the terminal; ``spent`` are the seconds that others took, ``left`` how many follow.

    ``busy`` gets the share of its own in which it had to wait.
    """
    from moonshine.costs.latency import visiting
    from workflow.estimating.timing import time_case

    if not spent:
        print(
            f"Measuring {left + 1} kinds of step on {device}, once on this machine, on {bench.batches} x "
            f"{bench.batch_size} images each",
            file=sys.stderr,
        )
    started = time.perf_counter()
    with visiting() as waited:
        found = time_case(bench, case)
        busy.append(waited())
    spent.append(time.perf_counter() - started)
    to_go = left * statistics.mean(spent)
    print(
        f"  {case.work.network}, {case.work.loss}: {images_per_second(found['seconds_per_image'])} images/s"
        + (f"; at most about {to_go:.0f} s to go" if left else "")
        + (
            ""
            if _is_reliable(bench, busy, found)
            else f"; not kept: it waited for {busy[-1]:.0%} of its time"
        ),
        file=sys.stderr,
    )
    return found
