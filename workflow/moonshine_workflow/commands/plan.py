"""``moonshine plan``: what fits a budget, before anything is trained."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from moonshine.costs.boards import BOARDS, board_named
from moonshine.costs.budgets import BUDGET_FORMS
from moonshine.errors import MoonshineError
from moonshine_workflow.commands.options import parse_input

if TYPE_CHECKING:
    from moonshine.calls.plan_measurements import AboutOf
    from moonshine.config import Study
    from moonshine.costs.boards import Board
    from moonshine.search.planning import Option
    from moonshine.search.space import Space
    from moonshine_workflow.students.layouts import Images

_DESCRIPTION = f"""
Print which students fit a budget: the reachable range, every student that has one block everywhere, those that the
study in params.yaml gives itself, and the best mixtures with a block of their own at every place. Sizes are exact;
where a budget limits a file, the untrained student is exported. Latencies are measured on this machine's CPU and
cached, unless the machine is busy. Where none of the paper's blocks meets a budget, the smallest blocks are tried.

A budget is one of {BUDGET_FORMS}.
Several --budget hold together.

--board instead says whether the network, and the students with each --block, fit a board with TensorFlow Lite Micro,
and what would change it. The exit status is 1 if none fits. Known: {", ".join(BOARDS)}.
"""


def add_plan(subparsers: Any) -> None:
    """Add ``moonshine plan``."""
    parser = subparsers.add_parser(
        "plan",
        help="students that fit a budget, before anything trains",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    limits = parser.add_mutually_exclusive_group(required=True)
    limits.add_argument("--budget", action="append", help="such as 1.2MB; repeatable")
    limits.add_argument("--board", help="such as esp32-s3, instead of a budget")
    parser.add_argument(
        "--model", help="instead of the teacher in params.yaml: wrn-40-2, torchvision/resnet34, ..."
    )
    parser.add_argument(
        "--input", metavar="CxHxW", help="such as 3x64x64; default: the study's prepared data"
    )
    parser.add_argument("--classes", type=int, metavar="N", help="default: those of the study's data")
    parser.add_argument(
        "--block", action="append", help="such as 'G(4)', or paper (default), separable, small, all"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the latencies; default 1")
    parser.add_argument("--measure-again", action="store_true", help="ignore cached latencies")
    parser.add_argument("--all", action="store_true", help="also list the students that do not fit")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.board:
        return _fit(arguments, board_named(arguments.board))
    from moonshine.costs.budgets import parse_budgets

    budgets = parse_budgets(arguments.budget)

    from moonshine.calls.plan_measurements import exporter, latencies
    from moonshine.calls.plan_text import in_int8, plan_as_text, table
    from moonshine.search.limits import Impossible
    from moonshine.search.planning import nearest_students, plan_students
    from moonshine_workflow.commands.planning.given_students import given_students

    def of_the_study() -> tuple[tuple[Option, ...], tuple[str, ...]]:
        if study is None or images is None:
            return (), ()
        return given_students(study, images, space.blocks, budgets, arguments.threads, about, _tell)

    refusals: list[tuple[Impossible, Space]] = []
    for candidates in [arguments.block] if arguments.block else [["paper"], ["small"]]:
        if refusals:
            _tell(f"None of the paper's blocks meets {refusals[0][0].budget}: trying --block small")
        space, study, images = _space(arguments, candidates)
        about = _about_of(images)
        measure = partial(latencies, space, arguments.threads, arguments.measure_again, _tell)
        try:
            found = plan_students(space, budgets, measure, exporter(space, about, _tell))
            break
        except Impossible as error:
            refusals.append((error, space))
    else:
        refused, space = min(refusals, key=lambda each: each[0].least)
        if not arguments.json:
            teacher, nearest = nearest_students(space, refused)
            shown = table(teacher, (*nearest, *of_the_study()[0]))
            print(f"What comes nearest to {refused.budget}:\n\n{shown}\n", flush=True)
            print(in_int8(refused.budget, nearest[0]), end="", flush=True)
        raise refused
    given, generated = of_the_study()
    found = replace(found, given=given, generated=(*found.generated, *generated))
    if arguments.json:
        print(json.dumps({"budgets": arguments.budget, **asdict(found), "left_out": space.refused}, indent=2))
    else:
        print(plan_as_text(space, budgets, found, arguments.threads, everything=arguments.all))
    return 0


def _fit(arguments: argparse.Namespace, board: Board) -> int:
    space, _, images = _space(arguments, arguments.block or [])

    from moonshine.calls.plan_measurements import exporter
    from moonshine_workflow.commands.planning.board import fit_board, fits_as_text

    export = exporter(space, _about_of(images), _tell)
    wanted = [block for block in space.blocks if block != "S"] if arguments.block else []
    found = [fit_board("ordinary blocks", space, {}, export)]
    found += [fit_board(block, space, space.uniform(block), export) for block in wanted]
    fitting = [each.fits(board) for each in found]
    if arguments.json:
        rows = [{**asdict(each), "fits": fits} for each, fits in zip(found, fitting, strict=True)]
        print(json.dumps({"board": asdict(board), "networks": rows}, indent=2))
    else:
        print(fits_as_text(space, board, found))
    return 0 if any(fitting) else 1


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _about_of(images: Images | None) -> AboutOf | None:
    """Return what the study's exported files say, where its data are prepared."""
    from moonshine_workflow.students.sizes import about_of

    return partial(about_of, images) if images and images.dataset else None


def _space(
    arguments: argparse.Namespace, candidates: Sequence[str] | None
) -> tuple[Space, Study | None, Images | None]:
    """Return the networks to plan for and, if they are the study's, that study and its images."""
    from moonshine.blocks.presets import choices
    from moonshine.search.space import Space
    from moonshine.structures.describe import places_of

    blocks = choices(candidates)
    if arguments.model:
        if not arguments.input or not arguments.classes:
            raise MoonshineError("--model needs --input, such as 3x64x64, and --classes, such as 10")
        shape = parse_input(arguments.input)
        found = places_of(arguments.model, {}, arguments.classes, shape, blocks, dense=None)
        return Space(*found, shape, arguments.model), None, None
    from moonshine.config import load_study
    from moonshine_workflow.graph import nodes
    from moonshine_workflow.students.layouts import Images, images_of

    study = load_study()
    if not (arguments.input and arguments.classes) and not nodes.fetch(study.study).is_done():
        raise MoonshineError(
            f"results/{study.study}/data: the study's data are not prepared yet; run `snakemake "
            f"results/{study.study}/data/dataset.json` or `dvc repro fetch` first, or give --input and --classes"
        )
    if arguments.input or arguments.classes:
        shape = parse_input(arguments.input) if arguments.input else images_of(study).shape
        images = Images(shape, arguments.classes or images_of(study).classes)
    else:
        images = images_of(study)
    teacher = study.teacher
    found = places_of(
        teacher.name,
        teacher.kwargs,
        images.classes,
        images.shape,
        blocks,
        teacher.include,
        teacher.exclude,
        dense=study.data.is_dense,
    )
    return Space(*found, images.shape, study.trusted), study, images
