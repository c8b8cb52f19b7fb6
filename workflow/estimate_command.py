"""``moonshine estimate``: what training a whole study takes, from the throughput of a device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moonshine.errors import MoonshineError

if TYPE_CHECKING:
    from moonshine.config import Study
    from workflow.estimating.arithmetic import Kind
    from workflow.estimating.data import Facts
    from workflow.estimating.throughput import Throughput
    from workflow.estimating.works import Cases

DESCRIPTION = """
Print what training a study takes: optimiser steps and images of every network, device hours, and the time on one and on
several devices. Every distinct network is timed here with each loss, in a few real training steps on noise, and
remembered where the process had its CPU to itself. --save writes what was measured to a file, and --throughput reads
one, so that the estimate for a GPU can be made on another machine.
"""
FOLDER = Path("studies")
BATCHES = {"cuda": 20, "cpu": 4}


def add_estimate(subparsers: Any) -> None:
    """Adds ``moonshine estimate``."""
    parser = subparsers.add_parser(
        "estimate",
        help="device hours of a study, before anything trains",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study", nargs="?", default="params.yaml", help="a file, or a name in studies/")
    parser.add_argument(
        "--student", action="append", metavar="NAME", help="only this one; may be given again"
    )
    parser.add_argument("--devices", type=int, metavar="N", default=8, help="beside 1; default 8")
    data = parser.add_argument_group(
        "data", "by default the prepared data, or what is known of a public data set"
    )
    data.add_argument(
        "--images", type=int, metavar="N", help="for training, those of data.validation included"
    )
    data.add_argument("--test-images", type=int, metavar="N")
    data.add_argument("--input", metavar="CxHxW", help="such as 3x64x64")
    data.add_argument("--classes", type=int, metavar="N")
    data.add_argument(
        "--pictures-per-second",
        type=float,
        metavar="R",
        help="that loading delivers to each device, where pictures are decoded as they are needed",
    )
    throughput = parser.add_argument_group("throughput")
    throughput.add_argument(
        "--measure-on-batches", type=int, metavar="K", help="default 20 on a GPU, 4 on a CPU"
    )
    throughput.add_argument("--measure-batch", type=int, metavar="N", help="default training.batch_size")
    source = throughput.add_mutually_exclusive_group()
    source.add_argument("--save", type=Path, metavar="FILE", help="write what was measured here")
    source.add_argument("--throughput", type=Path, metavar="FILE", help="read it instead of measuring")
    source.add_argument(
        "--tflops",
        type=float,
        metavar="R",
        help="assume so many 10^12 operations a second instead of measuring",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_estimate)


def _estimate(arguments: argparse.Namespace) -> int:
    study = _study(arguments.study, arguments.student)
    _check(arguments, study)

    from workflow.estimating.arithmetic import Load, rows, slowed, tasks
    from workflow.estimating.data import Given, facts_of, shape_of
    from workflow.estimating.text import Estimate, as_json, as_text
    from workflow.estimating.throughput import read, write
    from workflow.estimating.works import cases

    shape = shape_of(arguments.input) if arguments.input else None
    facts = facts_of(study, Given(arguments.images, arguments.test_images, shape, arguments.classes))
    there = read(arguments.throughput) if arguments.throughput else None
    wanted = cases(study, facts)
    throughput = there or _throughput(arguments, study, facts, wanted)
    if arguments.save:
        write(arguments.save, throughput)
    training = study.training
    load = Load(facts.train, facts.validation, facts.test, training.epochs, training.batch_size)
    paces = slowed(throughput.paces(wanted, str(arguments.throughput)), arguments.pictures_per_second)
    estimated = rows(study, load, paces)
    estimate = Estimate(
        study,
        facts,
        load,
        throughput,
        estimated,
        tasks(study, estimated),
        sorted({1, arguments.devices}),
        arguments.pictures_per_second,
    )
    print(json.dumps(as_json(estimate), indent=2) if arguments.json else as_text(estimate))
    return 0


def _study(name: str, students: list[str] | None) -> Study:
    """A file, or one of studies/ by its name; with these students only where any are named."""
    from moonshine.config import load_study

    path = Path(name)
    if not path.is_file() and path.stem == name:
        path = FOLDER / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
            raise MoonshineError(
                f"study {name!r}: no such file; allowed: a file, or one of studies/: {known}"
            )
    study = load_study(path)
    for student in students or ():
        if student not in study.students:
            raise MoonshineError(
                f"--student is {student}; allowed: the students of {study.study}: {', '.join(study.students)}"
            )
    chosen = {key: each for key, each in study.students.items() if not students or key in students}
    return study.model_copy(update={"students": chosen})


def _check(arguments: argparse.Namespace, study: Study) -> None:
    for option, least in (("devices", 1), ("measure_on_batches", 1), ("measure_batch", 2)):
        value = getattr(arguments, option)
        if value is not None and value < least:
            raise MoonshineError(
                f"--{option.replace('_', '-')} is {value}; allowed: a whole number from {least}"
            )
    if arguments.tflops is not None and not 0 < arguments.tflops < float("inf"):
        raise MoonshineError(f"--tflops is {arguments.tflops}; allowed: a number above 0")
    rate = arguments.pictures_per_second
    if rate is not None and not study.is_encoded:
        raise MoonshineError(
            f"--pictures-per-second is {rate}, and the images of {study.study} are decoded before training; allowed: "
            "with data that are decoded as they are needed (imagenet, picture_files)"
        )
    if rate is not None and not 0 < rate < float("inf"):
        raise MoonshineError(f"--pictures-per-second is {rate}; allowed: a number above 0")


def _throughput(
    arguments: argparse.Namespace, study: Study, facts: Facts, wanted: Mapping[Kind, Cases]
) -> Throughput:
    """The throughput of this machine's device, or of one with the rate that is assumed."""
    if arguments.tflops:
        from workflow.estimating.assumed import assume

        return assume(study, wanted, arguments.tflops)
    from moonshine.training.execution import resolve
    from workflow.estimating.throughput import measure
    from workflow.estimating.timing import Bench

    execution = resolve(study.runtime, study.training.precision)
    batches = arguments.measure_on_batches or BATCHES[execution.device.type]
    batch_size = arguments.measure_batch or study.training.batch_size
    return measure(wanted, Bench(study, facts, execution, batch_size, batches))
