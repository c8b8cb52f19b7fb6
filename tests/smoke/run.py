"""``make smoke``: every smoke-test study, the whole graph, under both engines, which must leave the same tables.

    python -m tests.smoke.run [STUDY ...] [--cores N]

Each runs in a copy of the project's files in a temporary folder, one of them also in a folder that is no clone. Last
comes a user's own folder: photographs, and a network with weights for other classes. Prints seconds; fails where an
engine does, or where the tables differ.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torchvision
import yaml
from PIL import Image

from moonshine_workflow.commands.initialising.project_files import project_files, write_project
from tests.workflow import tiny
from tests.workflow.clones import PROJECT, call, clone

STUDIES = sorted(path.stem for path in (PROJECT / "studies").glob("*-smoke.yaml"))
INSTALLED = "cifar10-smoke"
"""The study that also runs by the graph of the installed package."""
PHOTOS = "photos"
"""The study of a user's own folder."""
ENGINES = {"snakemake": ("snakemake", "--cores"), "dvc": ("moonshine_workflow.engines.parallel", "--jobs")}


def run(
    study: str, command: Sequence[str], root: Path, *, in_suite: bool = False, in_clone: bool = True
) -> tuple[float, dict[str, str]]:
    """Seconds, and the tables by name; RuntimeError with the engine's last words where it failed.

    ``in_suite`` saves time: nothing is logged to MLflow, and commands are forks that have imported torch. Where it is
    not ``in_clone``, the graph is that of the installed package, with the files of `moonshine init`.
    """
    folder = root / f"{study} {command[0]}"
    folder.mkdir()
    if study == PHOTOS:
        write_photos(folder)
    else:
        write_smoke_test(study, folder, in_suite=in_suite, in_clone=in_clone)
    started = time.monotonic()
    done = call(folder, *command, quick=in_suite)
    seconds = time.monotonic() - started
    results = folder / "results" / study
    if done.returncode or not (results / "report.html").is_file():
        said = (done.stdout + done.stderr).splitlines()[-25:]
        raise RuntimeError("\n".join([f"{study} under {command[0]} failed:", *said]))
    return seconds, {path.name: path.read_text() for path in sorted((results / "tables").iterdir())}


def write_smoke_test(study: str, folder: Path, *, in_suite: bool, in_clone: bool) -> None:
    """Write the files that a study of studies/ runs with."""
    content = yaml.safe_load((PROJECT / "studies" / f"{study}.yaml").read_text(encoding="utf-8"))
    if in_clone:
        clone(folder, content, tracked=not in_suite)
    else:
        write_project(folder, project_files(folder))
        tiny.write_study(folder, content)


def write_photos(folder: Path) -> None:
    """Write photographs of two classes, a resnet18's weights for 1,000, and what `moonshine init` makes of them.

    The usual blocks do not reach the budget. The study is cut to one student, one seed and an epoch of each network.
    """
    draw = np.random.default_rng(0)
    for split, images in (("train", 12), ("test", 6)):
        for light, name in ((60, "buildings"), (160, "trees")):
            (folder / "photos" / split / name).mkdir(parents=True)
            for number in range(images):
                pixels = draw.integers(light - 50, light + 50, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "photos" / split / name / f"{number}.png")
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet18().state_dict(), folder / "w.pt")
    made = ("--model", "torchvision/resnet18", "--weights", "w.pt", "--data", "photos")
    done = call(folder, "moonshine", "init", PHOTOS, *made, "--budget", "700kB onnx-int8", quick=False)
    if done.returncode:
        raise RuntimeError(f"moonshine init failed:\n{done.stdout}{done.stderr}")
    study = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    study["students"] = dict(list(study["students"].items())[:1])
    study["seeds"] = [0]
    study["training"]["epochs"] = study["teacher"]["finetune"]["epochs"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def main(argv: list[str] | None = None) -> int:
    """Run the studies named, or all; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.smoke.run", description=__doc__)
    parser.add_argument(
        "studies", nargs="*", metavar="STUDY", help=f"of {', '.join([*STUDIES, PHOTOS])}; default: all"
    )
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.studies) - {*STUDIES, PHOTOS}:
        parser.error(
            f"{', '.join(sorted(unknown))}: no such study; there are {', '.join([*STUDIES, PHOTOS])}"
        )
    failed = 0
    places = [(study, study != PHOTOS) for study in arguments.studies or STUDIES]
    places += [] if arguments.studies else [(INSTALLED, False), (PHOTOS, False)]
    for study, in_clone in places:
        with TemporaryDirectory(prefix="moonshine-smoke-") as root:
            tables = {}
            for engine in ENGINES:
                try:
                    command = (*ENGINES[engine], str(arguments.cores))
                    seconds, tables[engine] = run(study, command, Path(root), in_clone=in_clone)
                except RuntimeError as error:
                    print(error, file=sys.stderr)
                    failed += 1
                else:
                    where = "" if in_clone else "  graph of the installed package"
                    print(f"{study:<20}{engine:<12}{seconds:6.1f} s{where}", flush=True)
            if len(tables) == len(ENGINES) and tables["snakemake"] != tables["dvc"]:
                print(f"{study}: the engines' tables differ", file=sys.stderr)
                failed += 1
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
