"""Every number of a result in README and docs is that of the records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moonshine.config import load_study
from moonshine.errors import MoonshineError
from moonshine_workflow.cli import main
from moonshine_workflow.records.documents import documents, pictures, rewritten
from moonshine_workflow.records.quotes import pooled, summary
from moonshine_workflow.records.record import RECORDS
from moonshine_workflow.records.repetitions import REPETITIONS, Repetition, design_of, only
from moonshine_workflow.records.save import save_record
from moonshine_workflow.report.results import load_results
from tests.messages import naming
from tests.workflow.report.test_what_to_ship import export, results

REPOSITORY = Path(__file__).parents[3]
DOCUMENTS = documents(REPOSITORY)
EXEMPT = "*Not in records:"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_say_what_the_records_say(path: Path) -> None:
    assert rewritten(path, REPOSITORY / RECORDS) == path.read_text(), "moonshine records quote"


def test_figures_say_what_the_records_say() -> None:
    found = pictures(REPOSITORY)
    assert found
    for path, svg in found.items():  # its curves have other last digits on another machine
        assert re.findall("<dc:title>.*", svg) == re.findall("<dc:title>.*", path.read_text())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_results_are_quoted_from_records_or_said_not_to_be(path: Path) -> None:
    by_hand = re.sub(r"<!-- record .*?<!-- end -->", "", path.read_text(), flags=re.DOTALL)
    sections = re.split(r"^## ", by_hand, flags=re.MULTILINE)
    quoted = [
        section.splitlines()[0]
        for section in sections
        if re.search(r"\d ± \d", section) and EXEMPT not in section
    ]
    assert quoted == []


@pytest.fixture
def quoting(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A README that quotes the record of an invented study."""
    save_record("digits", root, root / "records")
    monkeypatch.chdir(root)
    path = Path("README.md")
    path.write_text(
        "# A\n\n<!-- record digits errors --><!-- end -->\n\n"
        "It is <!-- record digits difference at scratch B2 --><!-- end --> there.\n"
    )
    return path


def test_what_a_hand_changed_is_written_anew(quoting: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["records", "quote"]) == 0
    assert capsys.readouterr().out == "README.md\n"
    text = quoting.read_text()
    assert "<!-- record digits errors -->\n| student of wrn-16-2 (" in text
    assert re.search(
        r"It is <!-- record .* B2 -->−?\+?\d\.\d\d ± \d+\.\d\d, inconclusive<!-- end --> there", text
    )
    row = next(line for line in text.splitlines() if line.startswith("| B(2) | 131,000 | 19.70M |"))
    quoting.write_text(text.replace(row, row.replace("131,000", "130,000")))
    assert rewritten(quoting) == text != quoting.read_text()
    assert main(["records", "quote"]) == 0
    assert quoting.read_text() == text
    assert capsys.readouterr().out == "README.md\n"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("letters errors", ["README.md", "'letters'", "digits"]),
        ("digits figures", ["README.md", "'figures'", "errors"]),
        ("digits error B2 hints", ["README.md", "B2", "hints"]),
        ("digits difference at hints", ["README.md", "at", "hints"]),
        ("digits error", ["README.md", "error"]),
    ],
)
def test_what_no_record_holds_is_named(marked: str, message: list[object], quoting: Path) -> None:
    quoting.write_text(f"<!-- record {marked} --><!-- end -->")
    with pytest.raises(MoonshineError, match=naming(*message)):
        rewritten(quoting)


def test_the_summary_begins_with_what_ships(tmp_path: Path) -> None:
    found = results(tmp_path, "500kB")
    assert summary(found) == pooled(found)  # nothing is exported yet
    export(tmp_path, found)
    said = summary(load_results("digits", tmp_path))
    ship = (
        "**Under 500kB, ship G(N) with AT: 400,000 bytes (`network.onnx`), a test error of 4.70 % instead of"
    )
    assert said.startswith(ship)
    assert said.endswith(pooled(found))


def test_repetitions_are_quoted_if_they_are_of_the_same_study(quoting: Path) -> None:
    study = load_study()
    for number, mean in ((2, -1.0), (1, -2.0)):
        found = Repetition(
            design=design_of(only(study, "at")),
            number=number,
            method="at",
            seeds=(2, 3),
            teacher_seed=1,
            teacher_error_pct=2.5,
            by_student={"G4": mean, "B2": mean},
            mean=mean,
            half_width=0.6,
            test_margin=0.8,
            margin=1.0,
            verdict="better" if number == 1 else "inconclusive",
            cpu_seconds=60,
        )
        with (RECORDS / "digits" / REPETITIONS).open("a") as file:
            file.write(f"{found.model_dump_json()}\n")
    quoting.write_text(
        "<!-- record digits repetitions -->\n<!-- end -->\n<!-- record digits repeated --><!-- end -->"
    )
    text = rewritten(quoting)
    assert "| 1 | 2.50 | −2.00 | 0.60 | 0.80 | 1.00 | better |\n| 2 |" in text
    assert "2 repetitions with fresh seeds: 1 better and 1 inconclusive; −1.50 points on average" in text
    lines = RECORDS / "digits" / REPETITIONS
    lines.write_text(lines.read_text().replace(design_of(only(study, "at")), "other"))
    with pytest.raises(MoonshineError, match=naming("README.md", REPETITIONS, "design", "other", "1")):
        rewritten(quoting)


def test_a_default_that_is_stated_is_the_same_design() -> None:
    study = load_study()
    attention = study.methods["at"].terms["at"]
    assert attention.model_dump()["map"] == "mean"  # a key that the schema gained later
    stated = type(study.methods["at"]).model_validate({"at": {**attention.model_dump(), "map": "mean"}})
    student = {"block": study.students["GN"].block, "blocks": None}
    kinds = {**study.students, "GN": type(study.students["GN"]).model_validate(student)}
    same = study.model_copy(update={"methods": {"at": stated}, "students": kinds})
    assert design_of(same) == design_of(only(study, "at"))
    other = study.model_copy(update={"seeds": [7, 8]})
    assert design_of(only(other, "at")) != design_of(only(study, "at"))


def test_every_part_can_be_quoted(quoting: Path) -> None:
    parts = ("setting", "errors", "pooled", "error teacher scratch", "machine")
    quoting.write_text("".join(f"<!-- record digits {part} --><!-- end -->\n" for part in parts))
    text = rewritten(quoting)
    assert all(words in text for words in ("1,078 training", "images of 16x16, 12 epochs, seeds 0 and 1."))
    assert "Pooled over the students: AT minus scratch " in text
    assert "torch 2.15.0" in text
