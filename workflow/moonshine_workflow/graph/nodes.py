"""Nodes of a study: their names, commands, folders and files, the same for both engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moonshine.config import Study

PARAMS = Path("params.yaml")
PARAMS_VARIABLE = "MOONSHINE_PARAMS"
"""Names the JSON file that stages read in place of params.yaml."""
RESULTS = Path("results")
TEACHER_STORE = RESULTS / ".teacher_store"
"""Outputs of teachers, for the nodes of all studies: no output of the graph."""
TRAINED_FILES = ("weights.safetensors", "structure.json", "metrics.json", "history.csv", "config.json")
DATA_FILES = ("data.safetensors", "dataset.json")
RUNNING = "running.json"
"""What a node that trains shows of itself, in its work folder; see `moonshine_workflow.tracking.runs.RunningNode`."""
EXAMPLES_FILE = "about.json"
"""What says which pictures the folder of examples holds."""
TABLES = "tables.json"
"""File of all tables except the curves, which the report reads."""
TABLE_FILES = ("runs.csv", "table.csv", "table.tex", "differences.csv", "curves.csv", TABLES)
_PROGRAMS = {"structure-teacher": "structure_teacher", "measure-teacher": "measure"}
"""The modules of the stages that are not called like theirs."""


@dataclass(frozen=True)
class Node:
    """One job of the graph; its stage determines which of the other fields it has."""

    stage: str
    study: str
    student: str | None = None
    method: str | None = None
    seed: int | None = None

    @property
    def wildcards(self) -> dict[str, str]:
        """All fields except the stage: Snakemake's wildcards, DVC's matrix, and the options of its command."""
        found = {"study": self.study, "student": self.student, "method": self.method, "seed": self.seed}
        return {name: str(value) for name, value in found.items() if value is not None}

    @property
    def name(self) -> str:
        """Name, as in DVC: ``distil@digits-GN-at-0``."""
        return f"{self.stage}@{'-'.join(self.wildcards.values())}"

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of Python that run it; `moonshine_workflow.graph.stage.main` reads them."""
        options = (text for name, value in self.wildcards.items() for text in (f"--{name}", value))
        return ("-m", f"moonshine_workflow.stages.{_PROGRAMS.get(self.stage, self.stage)}", *options)

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files that it leaves; of ``export`` and ``examples`` a folder, whose files depend on what was chosen."""
        student = self.root / "students" / str(self.student)
        match self.stage:
            case "fetch":
                return _in(self.root / "data", DATA_FILES)
            case "structure":
                return (student / "structure.json",)
            case "structure-teacher":
                return (self.root / "structure" / "teacher.json",)
            case "measure":
                return (student / "cost.json",)
            case "measure-teacher":
                return (self.root / "measure" / "teacher.json",)
            case "teacher":
                return _in(self.root / "teacher", TRAINED_FILES)
            case "scratch" | "distil":
                return _in(student / (self.method or "scratch") / f"seed{self.seed}", TRAINED_FILES)
            case "collect":
                return _in(self.root / "tables", TABLE_FILES) + _in(
                    self.root, ("metrics.json", "choice.json")
                )
            case "report":
                return _in(self.root, ("report.html", "report.ipynb"))
        return (self.root / self.stage,)

    @property
    def root(self) -> Path:
        return RESULTS / self.study

    @property
    def folder(self) -> Path:
        return self.outputs[0].parent

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.name}.log"

    @property
    def timings(self) -> Path:
        return self.root / "timings" / f"{self.name}.json"

    @property
    def work(self) -> Path:
        """Checkpoints and progress: undeclared, because both engines delete the outputs of a failed job."""
        return self.root / ".work" / self.name

    @property
    def trains(self) -> bool:
        return self.stage in ("teacher", "scratch", "distil")

    @property
    def computes(self) -> bool:
        """Whether it uses torch: then on ``runtime.threads`` threads, under either engine."""
        return self.stage not in ("collect", "report")

    def is_done(self) -> bool:
        return all(path.exists() for path in self.outputs)


def _in(folder: Path, names: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(folder / name for name in names)


def fetch(study: str) -> Node:
    return Node("fetch", study)


def resolved_file(study: str) -> Path:
    """The file in which DVC, and its stages, find the parameters of a study."""
    return RESULTS / study / "resolved.json"


def teacher(study: str) -> Node:
    return Node("teacher", study)


def structure(study: str, student: str | None = None) -> Node:
    """What a student is, or the teacher."""
    return Node("structure" if student else "structure-teacher", study, student)


def measure(study: str, student: str | None = None) -> Node:
    """What a student costs, or the teacher."""
    return Node("measure" if student else "measure-teacher", study, student)


def scratch(study: str, student: str, seed: int) -> Node:
    return Node("scratch", study, student, seed=seed)


def distil(study: str, student: str, method: str, seed: int) -> Node:
    return Node("distil", study, student, method, seed)


def collect(study: str) -> Node:
    return Node("collect", study)


def export(study: str) -> Node:
    return Node("export", study)


def examples(study: str) -> Node:
    return Node("examples", study)


def report(study: str) -> Node:
    return Node("report", study)


def trained(study: Study) -> list[Node]:
    """Return every node that trains: the teacher, then per student and seed scratch and each method."""
    found = [teacher(study.study)]
    for student in study.students:
        for seed in study.seeds:
            found.append(scratch(study.study, student, seed))
            found.extend(distil(study.study, student, method, seed) for method in study.methods)
    return found


def all_nodes(study: Study) -> list[Node]:
    """Return every node of the study, in an order in which they could run."""
    name = study.study
    found = [fetch(name), structure(name), measure(name)]
    for student in study.students:
        found += [structure(name, student), measure(name, student)]
    return [*found, *trained(study), collect(name), export(name), examples(name), report(name)]
