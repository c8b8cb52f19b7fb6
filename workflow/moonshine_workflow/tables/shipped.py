"""Record of what ships, written by the stage `export` and quoted by the report and the model card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from moonshine.json_model import JsonModel
from moonshine_workflow.tables.choice import Candidate, ShippingChoice

FILE = "shipped.json"
FileVerdict = Literal["good", "falls", "not accurate enough", "not converted"]


@dataclass(frozen=True)
class Judged:
    """Validation errors of a candidate in percent: of the network, and of each exported file by name.

    ``verdict`` is about the files that the budget counts: ``falls`` if one is within the allowed error, but worse
    than the network by more than the study tolerates. If the network was ``not converted``, ``reason`` says why.
    """

    student: str
    method: str
    seed: int
    network_pct: float | None
    files_pct: dict[str, float]
    verdict: FileVerdict
    reason: str = ""

    def drop(self, file: str) -> float:
        """Return by how many percentage points of validation error a file is worse than the network."""
        assert self.network_pct is not None
        return self.files_pct[file] - self.network_pct


class Shipped(JsonModel):
    """Content of ``shipped.json``: ``status`` is ``shipped``, or says why nothing ships.

    ``judged`` are the candidates in the order in which they were tried. ``counted`` are the files that decide: those
    that the budget limits, or ``network.onnx`` if it limits none.
    """

    status: str
    budgets: tuple[str, ...] = ()
    allowed_error_pct: float | None = None
    allowed_fall_points: float = 1.0
    counted: tuple[str, ...] = ()
    chosen: Judged | None = None
    judged: tuple[Judged, ...] = ()

    def answers(self, choice: ShippingChoice) -> bool:
        """Return whether this record belongs to ``choice`` and not to an older one: same limits, same candidates."""
        if (self.budgets, self.allowed_error_pct) != (choice.budgets, choice.allowed_error_pct):
            return False
        ranked = [(each.student, each.method, each.seed) for each in choice.ranked]
        tried = [(each.student, each.method, each.seed) for each in self.judged]
        return bool(tried) and tried == ranked[: len(tried)]

    def degraded(self, judged: Judged) -> list[str]:
        """Return the files that are worse than the network by more than the study tolerates."""
        # a difference of exactly the tolerance may come out larger by rounding
        return [each for each in judged.files_pct if judged.drop(each) > self.allowed_fall_points + 1e-9]

    @property
    def nearest(self) -> Judged | None:
        """Return the most accurate candidate that was converted, None if none was."""
        converted = [each for each in self.judged if each.verdict != "not converted"]
        return min(converted, key=self.worst, default=None)

    def worst(self, judged: Judged) -> float:
        """Return the largest validation error of the files that the budget counts."""
        return max(judged.files_pct[file] for file in self.counted)


def warnings(shipped: Shipped, candidate: Candidate) -> list[str]:
    """Return caveats about the chosen files, a sentence each; ``candidate`` is the one they were made from."""
    said = []
    if shipped.chosen is not None:
        for file in shipped.degraded(shipped.chosen):
            uncounted = "" if file in shipped.counted else " The budget does not count this file."
            said.append(
                f"{file} is {shipped.chosen.drop(file):.2f} points worse in validation than the network it was made "
                f"from ({shipped.chosen.files_pct[file]:.2f} % against {shipped.chosen.network_pct:.2f} %); the study "
                f"tolerates {shipped.allowed_fall_points:g}.{uncounted}"
            )
    if candidate.diverged:
        total = candidate.seeds + candidate.diverged
        said.append(f"{candidate.diverged} of {total} seeds diverged: the mean is that of the others.")
    return said


def read_shipped(export: Path) -> Shipped | None:
    """Return the record in the folder of an export, None if nothing has been exported yet."""
    return Shipped.read(export / FILE) if (export / FILE).is_file() else None
