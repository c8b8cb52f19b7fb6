"""The nodes of a study: their names, commands, folders and files, the same for both engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moonshine.config import Study

PARAMS = Path("params.yaml")
PARAMS_VARIABLE = "MOONSHINE_PARAMS"
"""Names the JSON file that stages read in place of params.yaml."""
RESULTS = Path("results")
TRAINED_FILES = ("weights.safetensors", "structure.json", "metrics.json", "history.csv", "config.json")
DATA_FILES = ("data.safetensors", "dataset.json")
EXAMPLES_FILE = "about.json"
"""What says which pictures the folder of examples holds."""
TABLE_FILES = ("runs.csv", "table.csv", "table.tex", "differences.csv", "curves.csv", "classes.csv")


@dataclass(frozen=True)
class Node:
    """One job of the graph; ``args`` are the wildcards after the study, in the order of the stage's name."""

    stage: str
    study: str
    args: tuple[str, ...]
    outputs: tuple[Path, ...]

    @property
    def name(self) -> str:
        """As DVC names it: ``distil@digits-G4-at-0``."""
        return f"{self.stage}@{'-'.join((self.study, *self.args))}"

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
    return Node("fetch", study, (), _in(RESULTS / study / "data", DATA_FILES))


def resolved(study: str) -> Path:
    """The file in which DVC, and its stages, find the parameters of a study."""
    return RESULTS / study / "resolved.json"


def teacher(study: str) -> Node:
    return Node("teacher", study, (), _in(RESULTS / study / "teacher", TRAINED_FILES))


def structure(study: str, student: str) -> Node:
    return Node("structure", study, (student,), (RESULTS / study / "students" / student / "structure.json",))


def measure(study: str, student: str) -> Node:
    if student == "teacher":
        return Node("measure-teacher", study, (), (RESULTS / study / "measure" / "teacher.json",))
    return Node("measure", study, (student,), (RESULTS / study / "students" / student / "cost.json",))


def scratch(study: str, student: str, seed: int) -> Node:
    folder = RESULTS / study / "students" / student / "scratch" / f"seed{seed}"
    return Node("scratch", study, (student, str(seed)), _in(folder, TRAINED_FILES))


def distil(study: str, student: str, method: str, seed: int) -> Node:
    folder = RESULTS / study / "students" / student / method / f"seed{seed}"
    return Node("distil", study, (student, method, str(seed)), _in(folder, TRAINED_FILES))


def collect(study: str) -> Node:
    root = RESULTS / study
    files = (*_in(root / "tables", TABLE_FILES), root / "metrics.json", root / "choice.json")
    return Node("collect", study, (), files)


def export(study: str) -> Node:
    """Its only output is a folder: what is in it depends on the choice."""
    return Node("export", study, (), (RESULTS / study / "export",))


def examples(study: str) -> Node:
    """Its only output is a folder: a picture for each network and example."""
    return Node("examples", study, (), (RESULTS / study / "examples",))


def report(study: str) -> Node:
    return Node("report", study, (), _in(RESULTS / study, ("report.html", "report.ipynb")))


def trained(study: Study) -> list[Node]:
    """Every node that trains: the teacher, then per student and seed scratch and each method."""
    found = [teacher(study.study)]
    for student in study.students:
        for seed in study.seeds:
            found.append(scratch(study.study, student, seed))
            found.extend(distil(study.study, student, method, seed) for method in study.methods)
    return found


def all_nodes(study: Study) -> list[Node]:
    """Every node of the study, in an order in which they could run."""
    name = study.study
    found = [fetch(name), measure(name, "teacher")]
    for student in study.students:
        found += [structure(name, student), measure(name, student)]
    return [*found, *trained(study), collect(name), export(name), examples(name), report(name)]
