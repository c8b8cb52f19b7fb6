"""The two graphs are one: every node has the same name, command, inputs, outputs and parameters in both engines."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from moonshine.config import Study, load_study
from moonshine.structures.build import to_structure
from moonshine_workflow.engines import dvc_state, snakemake_state
from moonshine_workflow.engines.snakemake_state import JobState
from moonshine_workflow.graph import nodes, resolve
from tests.workflow import tiny
from tests.workflow.clones import PROJECT, clone, inside

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")

AWKWARD = tiny.study(
    study="Odd_name+1",
    students={
        "BG2-M_8": {"block": "BG(2,M/8)"},
        "10": {"network": "wrn-10-1", "block": "G(N)"},
        "own": {"network": "graph_nets:build"},
        "by_place": {"blocks": {"stage[1-2].*": "G(4)", "stage3.0": "BG(2,M)", "*": "S"}},
        "again": {"structure": "mixtures/graph's own.json"},
        "dc": {
            "rival": {
                "budget": "20kB dc",
                "compress": {
                    "bits": 3,
                    "prune": {"rounds": 1, "epochs": 1, "lr": 0.02},
                    "share": {"epochs": 1, "lr": 0.001},
                },
            }
        },
    },
    methods={
        "kd+at": {
            "at": {"form": "paper", "beta": 1},
            "kd": {"alpha": 1, "temperature": 2, "form": "released"},
        }
    },
    seeds=[3, 0],
)
STUDIES = {
    "default": None,
    "awkward": AWKWARD,
    "scratch only": tiny.study(methods={}),
}
OWN = "import graph_blocks\n"


def below(folder: str, names: str) -> list[str]:
    """The files of these names below a folder of the project."""
    return [path.relative_to(PROJECT).as_posix() for path in (PROJECT / folder).rglob(names)]


# Files that nodes import and that define none of their numbers, nor does what only these import.
HARMLESS = {
    "moonshine/__init__.py": "lazy exports",
    "moonshine/data/description.py": "checked reading",
    "moonshine/errors.py": "the exception",
    "moonshine/export/__init__.py": "exports",
    "moonshine/files.py": "atomic writing",
    "moonshine/json_model.py": "checked reading and atomic writing",
    "workflow/moonshine_workflow/tracking/runs.py": "tracking",
    "moonshine/search/__init__.py": "empty",
    "moonshine/search/rivals.py": "checks of the study",
    "workflow/moonshine_workflow/tracking/store.py": "tracking",
    "workflow/moonshine_workflow/graph/check.py": "checks of the study",
    "workflow/moonshine_workflow/training/gpus.py": "chooses among GPUs",
    "workflow/moonshine_workflow/training/launch.py": "starts processes",
    "workflow/moonshine_workflow/graph/metrics.py": "checked reading and writing",
    "workflow/moonshine_workflow/graph/structures.py": "checked reading",
    "workflow/moonshine_workflow/graph/dvc_file.py": "a check of dvc.yaml",
    "workflow/moonshine_workflow/graph/library.py": "where the library's files are",
    "workflow/moonshine_workflow/graph/mistakes.py": "messages, exit status",
    "workflow/moonshine_workflow/graph/nodes.py": "names and paths",
    "workflow/moonshine_workflow/graph/parameters.py": "compares parameters",
    "workflow/moonshine_workflow/training/prepared.py": "the data that dataset.json tells, or none",
    "workflow/moonshine_workflow/training/progress.py": "progress",
    "workflow/moonshine_workflow/training/progress_file.py": "progress",
    "workflow/moonshine_workflow/graph/work_progress.py": "progress",
    "moonshine/progress.py": "progress",
    "workflow/moonshine_workflow/graph/stage.py": "logs, timings, exit status",
    "workflow/moonshine_workflow/students/trial.py": "checks of the study",
    "workflow/moonshine_workflow/training/placement.py": "chooses among GPUs",
    **dict.fromkeys(below("workflow/moonshine_workflow", "__init__.py"), "a docstring"),
    # the schema; it has no defaults
    "moonshine/fields.py": "the schema",
    "moonshine/preparation/__init__.py": "a docstring",
    **dict.fromkeys(below("moonshine/config", "*.py"), "the schema"),
}
NETWORKS = [f"moonshine/{folder}" for folder in ("blocks", "networks", "structures", "substitution")]
# Imported by the stage for something else than what its node leaves.
UNUSED = {
    "fetch": ["moonshine/structures/published_weights.py"],  # the teacher's weights are downloaded
    "structure-teacher": ["moonshine/compression", "moonshine/formats"],  # budgets of rivals are students'
    "structure": ["moonshine/distillation"],  # the terms of methods are tried out before they train
    "measure": [],
    # layouts and budgets are of students, a teacher has no method
    "teacher": [
        "moonshine/distillation",
        "moonshine/costs",
        "moonshine/formats",
        "workflow/moonshine_workflow/students/layouts.py",
    ],
    "scratch": ["moonshine/distillation"],
    "distil": [],
    # structures are read, budgets compared
    "collect": [*NETWORKS, "moonshine/compression", "moonshine/formats"],
    "export": [],
    "examples": [
        "workflow/moonshine_workflow/tracking/back_fill.py",
        "workflow/moonshine_workflow/tracking/views.py",
    ],
    # collecting is what the report does with --partial
    "report": [
        *NETWORKS,
        "moonshine/compression",
        "moonshine/formats",
        "moonshine/costs/cache.py",
        "moonshine/costs/measured.py",
        "workflow/moonshine_workflow/training/configuration.py",
    ],
}


@pytest.fixture(scope="module", params=STUDIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = STUDIES[request.param]
    made = clone_with_nets(tmp_path_factory.mktemp("graphs"), content or tiny.STUDY)
    if content is None:
        (made / "params.yaml").write_bytes((PROJECT / "studies" / "digits.yaml").read_bytes())
    return made


def clone_with_nets(folder: Path, content: dict[str, Any]) -> Path:
    """A clone with code of the user's beside it."""
    write_nets(folder)
    return clone(folder, content)


def write_nets(folder: Path) -> None:
    """Write the user's code and the structure that the awkward study names."""
    (folder / "graph_nets.py").write_text(OWN)
    (folder / "graph_blocks.py").touch()
    mixture = {"stage1.0": "G(4)", "stage2.0": "S", "stage3.0": "B(2)"}
    to_structure("wrn-10-1", mixture, 2, 1).write(folder / "mixtures" / "graph's own.json")


@pytest.fixture(scope="module")
def snakemake(folder: Path) -> dict[str, JobState]:
    return read_snakemake(folder)


@pytest.fixture(scope="module")
def dvc(folder: Path) -> dict[str, JobState]:
    return read_dvc(folder)


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load_study(folder / "params.yaml")


def read_snakemake(folder: Path) -> dict[str, JobState]:
    with inside(folder):
        return {job.name: job for job in snakemake_state.jobs()}


def read_dvc(folder: Path) -> dict[str, JobState]:
    """DVC's stages in the form of Snakemake's jobs, without those that read params.yaml as the Snakefile does."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    found = {}
    with inside(folder), Repo() as repo:
        resolve.refresh(load_study())
        for stage in repo.index.stages:
            if stage.name.partition("@")[0] in dvc_state.OWN_STAGES:
                continue
            params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
            found[stage.name] = JobState(
                name=stage.name,
                command=stage.cmd,
                inputs=tuple(sorted(dep.def_path for dep in stage.deps if dep not in params)),
                outputs=tuple(sorted(out.def_path for out in stage.outs)),
                params={key: value for dep in params for key, value in dep.read_params().items()},
                log="",
                due=True,
                recorded=False,
                changed_inputs=frozenset(),
                other_changes=(),
            )
    return found


def differences(snakemake: dict[str, JobState], dvc: dict[str, JobState]) -> list[str]:
    """What the two graphs do not share, in words; an input of DVC that is a folder stands for the inputs below it."""
    found = [f"{name}: only in one engine" for name in snakemake.keys() ^ dvc.keys()]
    for name in snakemake.keys() & dvc.keys():
        one, other = snakemake[name], dvc[name]
        for what in ("command", "outputs", "params"):
            if getattr(one, what) != getattr(other, what):
                found.append(f"{name}: {what}: {getattr(one, what)} and {getattr(other, what)}")
        covered: set[str] = set()
        for path in other.inputs:
            below = {each for each in one.inputs if each == path or each.startswith(f"{path}/")}
            covered |= below
            if not below:
                found.append(f"{name}: input only in DVC: {path}")
        found += [f"{name}: input only in Snakemake: {path}" for path in set(one.inputs) - covered]
    return found


def test_the_graphs_are_equal(snakemake: dict[str, JobState], dvc: dict[str, JobState]) -> None:
    assert differences(snakemake, dvc) == []


def test_the_graphs_are_the_nodes_of_the_study(snakemake: dict[str, JobState], study: Study) -> None:
    expected = {node.name: node for node in nodes.all_nodes(study)}
    assert snakemake.keys() == expected.keys()
    for name, job in snakemake.items():
        assert list(job.outputs) == sorted(map(str, expected[name].outputs))
        assert job.log == str(expected[name].log)
        assert job.command == " ".join(("python", *expected[name].command))


def test_tables_come_from_exactly_the_nodes_of_the_study(
    snakemake: dict[str, JobState], study: Study
) -> None:
    root = f"results/{study.study}"
    expected = {f"{root}/teacher/structure.json", f"{root}/measure/teacher.json"}
    for node in nodes.trained(study):
        expected |= {str(node.folder / name) for name in ("metrics.json", "history.csv", "config.json")}
    for student in study.students:
        expected |= {f"{root}/students/{student}/{name}.json" for name in ("structure", "cost")}
    found = snakemake[nodes.collect(study.study).name].inputs
    assert {path for path in found if path.startswith("results/")} == expected


def test_scratch_waits_for_no_teacher(snakemake: dict[str, JobState]) -> None:
    waits = {name for name, job in snakemake.items() if any("/teacher/" in path for path in job.inputs)}
    assert {name.split("@")[0] for name in waits} <= {
        "distil",
        "collect",
        "examples",
        "export",
        "report",
    }


@pytest.mark.parametrize("engine", ["snakemake", "dvc"])
@pytest.mark.parametrize("what", ["name", "command", "inputs", "outputs", "params", "value"])
def test_a_difference_is_noticed(
    engine: str, what: str, snakemake: dict[str, JobState], dvc: dict[str, JobState], study: Study
) -> None:
    graphs = {"snakemake": dict(snakemake), "dvc": dict(dvc)}
    name = nodes.scratch(study.study, next(iter(study.students)), study.seeds[0]).name
    job = graphs[engine].pop(name)
    changes: dict[str, dict[str, Any]] = {
        "name": {"name": f"{name}-1"},
        "command": {"command": f"{job.command} --fast"},
        "inputs": {"inputs": tuple(path for path in job.inputs if "dataset.json" not in path)},
        "outputs": {"outputs": job.outputs[1:]},
        "params": {"params": {"augment": job.params["augment"]}},
        "value": {"params": {**job.params, "augment": {"crop_padding": 4, "flip": True}}},
    }
    changed = changes[what]
    graphs[engine][changed.get("name", name)] = replace(job, **changed)
    found = differences(graphs["snakemake"], graphs["dvc"])
    assert found
    assert all(line.startswith(name) for line in found)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("workflow/rules/training.smk", "*DISTILLATION, "),
        ("workflow/rules/training.smk", "        teacher_structure=rules.teacher.output.structure,\n"),
        ("dvc.yaml", "          - methods.${item.method}\n"),
        ("dvc.yaml", "      - moonshine/distillation\n"),
        ("workflow/rules/structure.smk", '        code=setting("code.students.{student}"),\n'),
        ("dvc.yaml", "          - code.students.${item.student}\n"),
    ],
)
def test_what_one_file_loses_is_noticed(file: str, words: str, tmp_path: Path) -> None:
    folder = clone_with_nets(tmp_path, AWKWARD)
    text = (folder / file).read_text()
    assert text.count(words) == 1
    (folder / file).write_text(text.replace(words, ""))
    found = differences(read_snakemake(folder), read_dvc(folder))
    assert found
    assert all(difference.startswith(("distil@", "structure@")) for difference in found)


@pytest.mark.parametrize("stage", UNUSED)
def test_nodes_depend_on_the_code_that_makes_them(stage: str) -> None:
    """Every file it imports is listed, alone or with its folder; nothing is listed, or excused, needlessly."""
    deps = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    listed = [path for path in deps if path.startswith(("moonshine/", "workflow/", "notebooks/"))]
    found = imported(stage)
    places = [*listed, *UNUSED[stage]]
    assert [place for place in places if not any(_within(each, place) for each in found)] == []
    assert [each for each in found if not any(_within(each, place) for place in places)] == []


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def imported(stage: str) -> set[str]:
    """The files that a stage reaches by imports, those inside functions and in its notebook included, and templates.

    `HARMLESS` ones, and what is reached through them alone, are left out.
    """
    found: set[str] = set()
    waiting = [f"workflow/moonshine_workflow/stages/{stage.replace('-', '_')}.py"] + (
        ["notebooks/report.ipynb"] if stage == "report" else []
    )
    while waiting:
        path = waiting.pop()
        if path not in found and path not in HARMLESS:
            found.add(path)
            if path == "workflow/moonshine_workflow/report/markup.py":
                found |= set(below("workflow/moonshine_workflow/report/templates", "*.jinja"))
            waiting += _imports((PROJECT / path).read_text(), path.endswith(".ipynb"))
    return found


def _imports(text: str, notebook: bool) -> list[str]:
    if notebook:
        text = "\n".join(
            "".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"
        )
    names: list[str] = []
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            names += [statement.module, *(f"{statement.module}.{alias.name}" for alias in statement.names)]
    homes = {"moonshine": "", "moonshine_workflow": "workflow/"}
    own = [name for name in names if name.split(".")[0] in homes]
    paths = [homes[name.split(".")[0]] + name.replace(".", "/") for name in own]
    candidates = [f"{path}.py" for path in paths] + [f"{path}/__init__.py" for path in paths]
    return [path for path in candidates if (PROJECT / path).is_file()]
