"""Repeat a study's comparison with fresh seeds, to see how often its verdict holds.

    python benchmarks/repetitions.py --times 20 [--study params.yaml] [--method at] [--keep FILE]

Rounding on another machine draws the noise of every training anew, and so do other seeds. Repetition r of a study with
n seeds adds r n to each of them and r to the teacher's; data and split stay as they are. It trains the teacher and each
student from scratch and with ``--method`` through the stages of the pipeline, and nothing else; the verdict is that of
the study's tables, pooled over students. Repetition 0 would be the study itself, with the same weights (``--first 0
--times 1 --folder DIR`` keeps them). The repetitions from ``--first`` (1) on are run one after another; each is a line
of ``--keep`` when it is done, and those that are there already are not run again. Data must need no file beside the
study.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections import Counter
from contextlib import chdir
from pathlib import Path

import torch

from moonshine.config import Study, load_study
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.records.record import RECORDS
from moonshine_workflow.records.repetitions import REPETITIONS, Repetition, design_of, only, read_repetitions
from moonshine_workflow.tables.collect import collect
from moonshine_workflow.tables.rows import Tables

PROGRAMS = {"structure-teacher": "structure_teacher"}
STAGES = ("fetch", "structure", "structure-teacher", "teacher", "scratch", "distil")


def repetition(study: Study, number: int) -> Study:
    """Return ``study`` with the seeds of a repetition."""
    seeds = [seed + number * len(study.seeds) for seed in study.seeds]
    teacher = study.teacher.model_copy(update={"seed": study.teacher.seed + number})
    return study.model_copy(update={"seeds": seeds, "teacher": teacher})


def train(study: Study) -> Tables:
    """Run every node that the comparison needs, in this process and folder; return the tables of the runs."""
    torch.set_num_threads(study.runtime.threads)
    wanted = [node for node in nodes.all_nodes(study) if node.stage in STAGES]
    # structures take no time; of what trains, the teacher is first
    for node in sorted(wanted, key=lambda node: (node.trains, node.stage != "teacher", node.seed or 0)):
        if not node.is_done():
            program = f"moonshine_workflow.stages.{PROGRAMS.get(node.stage, node.stage)}"
            importlib.import_module(program).run(stage.Job(node, study))
    return Tables.model_validate_json(collect(study, partial=True)[f"tables/{nodes.TABLES}"])


def found(study: Study, number: int, design: str, tables: Tables, cpu_seconds: float) -> Repetition:
    """Return what a repetition found."""
    (method,) = study.methods
    effects = [each for each in tables.differences if each.method == method]
    (pooled,) = (each for each in effects if each.scope == "pooled")
    figures = {name: getattr(pooled, name) for name in ("mean", "half_width", "test_margin", "margin")}
    teacher = next(run.test_error_pct for run in tables.runs if run.student == "teacher")
    assert teacher is not None  # one that diverges is an error
    return Repetition(
        design=design,
        number=number,
        method=method,
        seeds=tuple(study.seeds),
        teacher_seed=study.teacher.seed,
        teacher_error_pct=round(teacher, 4),
        by_student={
            each.student: each.mean and round(each.mean, 4) for each in effects if each.scope == "student"
        },
        **{name: round(figure, 4) for name, figure in figures.items()},
        verdict=pooled.verdict,
        cpu_seconds=round(cpu_seconds),
    )


def main() -> None:
    """Run what is missing; print each, and how many there are of each verdict."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=nodes.PARAMS)
    parser.add_argument("--method", default="at")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--keep", type=Path, help="records/STUDY/repetitions.jsonl if left out")
    parser.add_argument("--folder", type=Path, help="keep the files of each repetition in a folder there")
    options = parser.parse_args()
    study = only(load_study(options.study), options.method)
    keep: Path = options.keep or RECORDS / study.study / REPETITIONS
    done = {each.number for each in read_repetitions(keep, study)}
    stage.logger.setLevel("WARNING")
    for number in range(options.first, options.first + options.times):
        if number in done:
            continue
        started = time.process_time()
        with tempfile.TemporaryDirectory() as draft:
            folder = (options.folder or Path(draft)).resolve() / f"repetition{number}"
            folder.mkdir(parents=True, exist_ok=True)
            own = repetition(study, number)
            with chdir(folder):
                tables = train(own)
        line = found(own, number, design_of(study), tables, time.process_time() - started).model_dump_json()
        with keep.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        print(line, flush=True)
    print(Counter(each.verdict for each in read_repetitions(keep, study)))


if __name__ == "__main__":
    main()
