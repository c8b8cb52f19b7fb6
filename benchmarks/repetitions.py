"""Repeat a study's comparison with fresh seeds, to see how often its verdict holds.

    python benchmarks/repetitions.py --times 20 --keep repetitions.jsonl [--study params.yaml] [--method at]

Rounding on another machine draws the noise of every training anew, and so do other seeds. Repetition r of a study with
n seeds adds r n to each of them and r to the teacher's; data and split stay as they are. It trains the teacher and each
student from scratch and with ``--method`` through the stages of the pipeline, and nothing else; the verdict is that of
the study's tables, pooled over students. Repetition 0 would be the study itself, with the same weights (``--first 0
--times 1 --folder DIR`` keeps them). The repetitions from ``--first`` (1) on are run one after another; each is a line
of ``--keep`` when it is done, and those that are there already are not run again. ``--markdown`` prints the table that
docs/results.md shows and runs nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import statistics
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

import torch

from moonshine.config import Study, load_study
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.parameters import resolved_values
from moonshine_workflow.tables.collect import collect
from moonshine_workflow.tables.records import Tables

PROGRAMS = {"structure-teacher": "structure_teacher"}
STAGES = ("fetch", "structure", "structure-teacher", "teacher", "scratch", "distil")
DESIGN = ("data", "augment", "teacher", "students", "methods", "seeds", "training")


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


def record(study: Study, number: int, design: str, tables: Tables, cpu_seconds: float) -> dict[str, Any]:
    """Return the line of a repetition: differences in points."""
    effects = [each for each in tables.differences if each.baseline == "scratch"]
    (pooled,) = (each for each in effects if each.scope == "pooled")
    teacher = next(run for run in tables.runs if run.student == "teacher")
    return {
        "design": design,
        "repetition": number,
        "seeds": study.seeds,
        "teacher_seed": study.teacher.seed,
        "teacher_error_pct": _rounded(teacher.test_error_pct),
        "by_student": {each.student: _rounded(each.mean) for each in effects if each.scope == "student"},
        "mean": _rounded(pooled.mean),
        "half_width": _rounded(pooled.half_width),
        "test_margin": _rounded(pooled.test_margin),
        "margin": _rounded(pooled.margin),
        "verdict": pooled.verdict,
        "cpu_seconds": round(cpu_seconds),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def design_of(study: Study) -> str:
    """Return a checksum of all that a repetition's numbers come from, besides the code."""
    settings = resolved_values(study)
    text = json.dumps({key: settings[key] for key in DESIGN}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def kept(path: Path, design: str) -> list[dict[str, Any]]:
    """Return the repetitions in a file, in order; MoonshineError for one of another study."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    for line in lines:
        if line["design"] != design:
            raise MoonshineError(f"{path}: design is {line['design']}; allowed: {design}, that of --study")
    return sorted(lines, key=lambda line: line["repetition"])


def summary(lines: list[dict[str, Any]]) -> str:
    """Return how many repetitions were conclusive, and their mean and standard deviation."""
    better = sum(line["verdict"] == "better" for line in lines)
    means = [line["mean"] for line in lines]
    spread = f", standard deviation {statistics.stdev(means):.2f}" if len(means) > 1 else ""
    return f"{better} of {len(lines)} better; mean effect {statistics.fmean(means):.2f} points{spread}"


def markdown(lines: list[dict[str, Any]]) -> str:
    """Return a table of the repetitions with their margins over seeds, test images, and both."""
    rows = [
        "| repetition | teacher's error | AT minus scratch | over seeds | over images | verdict |",
        "|---" * 6 + "|",
    ]
    rows += [
        f"| {line['repetition']} | {line['teacher_error_pct']:.2f} | {line['mean']:.2f} ± {line['margin']:.2f} "
        f"| {line['half_width']:.2f} | {line['test_margin']:.2f} | {line['verdict']} |"
        for line in lines
    ]
    return "\n".join(rows).replace("| -", "| −")


def main() -> None:
    """Run what is missing and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=nodes.PARAMS)
    parser.add_argument("--method", default="at")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="keep the files of each repetition in a folder there")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    study = load_study(options.study)
    alone = {options.method: study.methods[options.method]}
    unpublished = study.report.model_copy(update={"published": None})
    study = study.model_copy(update={"methods": alone, "report": unpublished})
    design = design_of(study)
    wanted = range(options.first, options.first + options.times)
    done = {line["repetition"] for line in kept(options.keep, design)}
    stage.logger.setLevel("WARNING")
    for number in () if options.markdown else wanted:
        if number in done:
            continue
        started = time.process_time()
        with tempfile.TemporaryDirectory() as draft:
            folder = (options.folder or Path(draft)).resolve() / f"repetition{number}"
            folder.mkdir(parents=True, exist_ok=True)
            own = repetition(study, number)
            with chdir(folder):
                tables = train(own)
        line = record(own, number, design, tables, time.process_time() - started)
        with options.keep.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(json.dumps(line), flush=True)
    lines = [line for line in kept(options.keep, design) if line["repetition"] in wanted]
    if options.markdown:
        print(markdown(lines) + "\n")
    print(summary(lines))


if __name__ == "__main__":
    main()
