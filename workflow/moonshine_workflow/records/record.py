"""The record of a study: `records/<study>/`, with `record.json` and the weights of some of its networks.

It holds what identifies no machine and no person: results, configurations and histories as the nodes left them, and of
their timings what the report shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from moonshine.config.study import Study, parse_study
from moonshine.costs.measured import MeasuredCost
from moonshine.data.description import Description
from moonshine.errors import MoonshineError
from moonshine.files import read_json, sha256, write_json
from moonshine.json_model import JsonModel
from moonshine.structures.structure import Start, StudyStructure
from moonshine_workflow.graph.metrics import Metrics
from moonshine_workflow.tables.shipped import Shipped

RECORDS = Path("records")
FILE = "record.json"
WEIGHTS = "weights"
FORMAT: Literal[1] = 1
RECEIPTS = "receipts.json"
"""The file of an export with the test errors of its files."""


class NodeTiming(JsonModel):
    """How a node ran: its timings file without the name of the machine and the dates."""

    only_given: ClassVar[bool] = True
    node: str
    seconds: float | None = None
    epoch_seconds: float | None = None
    processor: str | None = None
    cores: int | None = None
    threads: int
    device: str
    devices: int = 1
    precision: str | None = None
    engine: str | None = None
    commit: str | None = None
    versions: Mapping[str, str] = {}
    resumed: int = 0
    latency_ms: dict[str, float] | None = None
    teacher_batches: dict[str, int] | None = None
    receipts: list[dict[str, Any]] | None = None


class Trained(JsonModel):
    """A trained node: the content of its files, of ``config`` what it does not share with all others.

    ``history`` has the lines of ``history.csv``, ``weights`` the checksum of the weights, which the record may hold.
    ``start``: those that a pretrained teacher started from.
    """

    only_given: ClassVar[bool] = True
    metrics: Metrics
    config: dict[str, Any]
    history: tuple[str, ...]
    weights: str
    start: Start | None = None

    def structure(self, planned: StudyStructure) -> StudyStructure:
        """Return the content of the node's ``structure.json``, given that of its student or teacher."""
        return planned.model_copy(update={"start": self.start}) if self.start else planned


class Restamp(JsonModel):
    """A use of ``moonshine restamp``, or, where ``restored``, of ``moonshine records restore``."""

    only_given: ClassVar[bool] = True
    when: str
    reason: str
    nodes: tuple[str, ...]
    restored: bool = False


class Record(JsonModel):
    """Content of ``record.json``; what is absent was not finished.

    ``study`` is params.yaml without defaults. ``code`` has, for each commit that nodes were made with, git's checksum
    of each folder of code. ``structures`` and ``costs`` are of the teacher and of the students, by name. ``kept`` names
    the nodes whose weights are in the record.
    """

    only_given: ClassVar[bool] = True
    format: Literal[1]
    study: dict[str, Any]
    finished: bool
    code: dict[str, dict[str, str]]
    dataset: Description
    structures: dict[str, StudyStructure]
    costs: dict[str, MeasuredCost]
    shared_config: dict[str, Any]
    trained: dict[str, Trained]
    timings: dict[str, NodeTiming]
    kept: tuple[str, ...]
    restamps: tuple[Restamp, ...] = ()
    shipped: Shipped | None = None
    receipts: dict[str, Any] | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file, with the errors of `JsonModel.read`, and one for the format of another version."""
        found = read_json(path).get("format")
        if found != FORMAT:
            raise MoonshineError(f"{path}: format: found {found!r}; this version of moonshine reads {FORMAT}")
        return super().read(path)

    def write(self, path: Path) -> None:
        """Write the file atomically, in the order of the study, which tables follow."""
        write_json(path, self.content(), sort_keys=False)

    @property
    def settings(self) -> Study:
        """The study. MoonshineError where this version of moonshine does not take it."""
        return parse_study(self.study, "the study of the record")

    def config(self, node: str) -> dict[str, Any]:
        """Return the resolved configuration of a trained node."""
        return {**self.shared_config, **self.trained[node].config}


def weights_file(folder: Path, node: str) -> Path:
    """Return the file of a record with the weights of a node."""
    return folder / WEIGHTS / f"{node}.safetensors"


def find_record(study: str, records: Path = RECORDS) -> Path:
    """Return the folder of a study's record; MoonshineError, with the studies that have one, if it is missing."""
    if not (records / study / FILE).is_file():
        known = sorted(path.parent.name for path in records.glob(f"*/{FILE}"))
        raise MoonshineError(
            f"{records}: found no record of '{study}'; recorded: {', '.join(known) or 'none'}"
        )
    return records / study


def read_record(folder: Path) -> Record:
    """Read a record and verify its weights.

    MoonshineError naming the file that is missing, damaged, cut short or of another version.
    """
    record = Record.read(folder / FILE)
    for node in record.kept:
        path = weights_file(folder, node)
        if not path.is_file():
            raise MoonshineError(f"{path}: missing; {FILE} says that the record holds it")
        if (found := sha256(path)) != record.trained[node].weights:
            raise MoonshineError(
                f"{path}: has the checksum {found}, {FILE} says {record.trained[node].weights}: it is truncated or "
                "damaged"
            )
    return record
