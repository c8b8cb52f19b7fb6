"""Records hold the results of a study, all that reports show of them, and nothing of the machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moonshine.errors import MoonshineError
from moonshine_workflow import cli
from moonshine_workflow.records.record import find_record, read_record
from moonshine_workflow.records.save import save_record
from moonshine_workflow.records.unpack import recorded_results, unpack
from moonshine_workflow.report import sections
from moonshine_workflow.report.results import load_results
from moonshine_workflow.stages import report as report_stage
from tests.messages import naming
from tests.workflow.records.conftest import SHIPPED, edit

TEACHER = "teacher@digits"


def saved(root: Path) -> Path:
    save_record("digits", root, root / "records")
    return root / "records" / "digits"


def unfinish(root: Path) -> None:
    """Take back what follows from a node that has not run yet."""
    shutil.rmtree(root / "results/digits/students/B2/at/seed1")
    for name in ("export", "tables", "examples"):
        shutil.rmtree(root / "results/digits" / name)


def weights(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "weights").iterdir()}


@pytest.mark.parametrize("finished", [True, False])
def test_what_is_unpacked_has_the_bytes_of_the_results(finished: bool, root: Path, tmp_path: Path) -> None:
    if not finished:
        unfinish(root)
    record = unpack(saved(root), tmp_path / "unpacked")
    assert record.finished == finished
    found = [path for path in (tmp_path / "unpacked" / "results").rglob("*") if path.is_file()]
    results = [path for path in found if "timings" not in path.parts]
    assert len(results) > 60
    for path in results:
        assert path.read_bytes() == (root / path.relative_to(tmp_path / "unpacked")).read_bytes(), path


def test_a_record_has_the_weights_that_a_pretrained_teacher_started_from(root: Path, tmp_path: Path) -> None:
    start = {"weights": "hers.pt", "sha256": "c" * 64, "loaded": 70, "drawn": []}
    structure = Path("results/digits/teacher/structure.json")
    edit(root / structure, lambda content: content.update(start=start))
    unpack(saved(root), tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / structure).read_bytes() == (root / structure).read_bytes()


def test_reports_read_from_a_record_what_they_read_from_results(root: Path) -> None:
    there = load_results("digits", root)
    with recorded_results(saved(root)) as found:
        assert (found.rows, found.runs, found.differences) == (there.rows, there.runs, there.differences)
        assert (found.choice, found.shipped, found.receipts) == (there.choice, there.shipped, there.receipts)
        assert found.curves == there.curves
        config = found.config(found.runs[-1])
        assert config == there.config(there.runs[-1])
        assert {timing["seconds"] for timing in found.timings.values()} == {1.5, 14.2}


def test_a_finished_study_keeps_the_weights_of_its_teacher_and_of_what_ships(root: Path) -> None:
    folder = saved(root)
    assert weights(folder) == {TEACHER, SHIPPED}


def test_an_unfinished_study_keeps_the_weights_of_its_finished_nodes(root: Path) -> None:
    unfinish(root)
    record = read_record(saved(root))
    assert weights(root / "records/digits") == set(record.trained) == set(record.kept)
    assert "distil@digits-B2-at-1" not in record.trained
    assert len(record.trained) == 12


def test_the_limit_keeps_the_teacher_first(root: Path) -> None:
    unfinish(root)
    record = save_record("digits", root, root / "records", limit=2500)
    assert record.kept == (TEACHER, "scratch@digits-G4-0")
    assert weights(root / "records/digits") == set(record.kept)


def test_names_of_machines_and_dates_are_left_out(root: Path) -> None:
    text = (saved(root) / "record.json").read_text()
    assert "worker" in (root / f"results/digits/timings/{TEACHER}.json").read_text()
    for name in ('"worker"', '"host"', '"started"', '"finished": "', "2026-11-23", str(root)):
        assert name not in text


def use_another_study(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("study: digits", "study: letters"))


def train_otherwise(root: Path) -> None:
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("beta: 1000.0", "beta: 10.0"))


def train_another_teacher(root: Path) -> None:
    (root / "results/digits/teacher/weights.safetensors").write_bytes(b"others")


def start_a_student_from_weights(root: Path) -> None:
    start = {"weights": "hers.pt", "sha256": "c" * 64, "loaded": 70}
    edit(
        root / "results/digits/students/G4/at/seed0/structure.json",
        lambda content: content.update(start=start),
    )


def forget_the_commit(root: Path) -> None:
    (root / f"results/digits/timings/{SHIPPED}.json").unlink()


def invent_a_commit(root: Path) -> None:
    edit(root / f"results/digits/timings/{SHIPPED}.json", lambda timing: timing.update(commit="f" * 40))


def edit_the_code(root: Path) -> None:
    path = root / f"results/digits/timings/{SHIPPED}.json"
    edit(path, lambda timing: timing.update(commit=timing["commit"] + "-dirty"))
    (root / "moonshine/code.py").write_text("1\n")


def name_a_path(root: Path) -> None:
    edit(
        root / "results/digits/data/dataset.json",
        lambda data: data.update(source="images of /mnt/me/images"),
    )


def name_the_machine(root: Path) -> None:
    edit(root / "results/digits/data/dataset.json", lambda data: data.update(source="images on worker"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (use_another_study, ["params.yaml", "study", "'letters'", "'digits'"]),
        (train_otherwise, ["students/G4/at/seed0", "method"]),
        (train_another_teacher, ["inputs.teacher", "teacher/weights.safetensors"]),
        (start_a_student_from_weights, ["students/G4/at/seed0/structure.json", "students/G4/structure.json"]),
        (forget_the_commit, [f"{SHIPPED}.json", "commit"]),
        (invent_a_commit, [SHIPPED, "commit", "f" * 40]),
        (edit_the_code, [SHIPPED, "commit", "-dirty"]),
        (name_a_path, ["record.json", "/mnt/me/images"]),
        (name_the_machine, ["record.json", "worker"]),
    ],
)
def test_refuses_to_record(spoil: Callable[[Path], None], message: list[object], root: Path) -> None:
    spoil(root)
    with pytest.raises(MoonshineError, match=naming(*message)):
        save_record("digits", root, root / "records")
    assert not (root / "records").exists()


def test_code_with_a_commit_is_known_by_its_content(root: Path) -> None:
    path = root / f"results/digits/timings/{SHIPPED}.json"
    edit(path, lambda timing: timing.update(commit=timing["commit"] + "-dirty"))  # of a params.yaml, long ago
    record = read_record(saved(root))
    ((commit, checksums),) = record.code.items()
    assert record.timings[SHIPPED].commit == commit
    assert set(checksums) == {"moonshine", "workflow/moonshine_workflow"}


def lose(folder: Path) -> None:
    (folder / "record.json").unlink()


def cut_short(folder: Path) -> None:
    text = (folder / "record.json").read_text()
    (folder / "record.json").write_text(text[: len(text) // 2])


def come_from_the_future(folder: Path) -> None:
    edit(folder / "record.json", lambda record: record.update(format=2))


def lose_weights(folder: Path) -> None:
    (folder / f"weights/{SHIPPED}.safetensors").unlink()


def cut_weights_short(folder: Path) -> None:
    (folder / f"weights/{SHIPPED}.safetensors").write_bytes(b"half")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lose, ["record.json", "no such file"]),
        (cut_short, ["record.json", "damaged"]),
        (come_from_the_future, ["record.json", "format", "2", "1"]),
        (lose_weights, [f"{SHIPPED}.safetensors", "missing"]),
        (cut_weights_short, [f"{SHIPPED}.safetensors", "checksum"]),
    ],
)
def test_a_damaged_record_is_named(spoil: Callable[[Path], None], message: list[object], root: Path) -> None:
    folder = saved(root)
    spoil(folder)
    with pytest.raises(MoonshineError, match=naming(*message)):
        unpack(folder, root / "unpacked")


def test_an_unknown_study_is_told_what_is_recorded(root: Path) -> None:
    saved(root)
    with pytest.raises(MoonshineError, match=naming("records", "'letters'", "digits")):
        find_record("letters", root / "records")


def test_saving_again_gives_the_same_bytes(root: Path) -> None:
    folder = saved(root)
    before = (folder / "record.json").read_bytes()
    saved(root)
    assert (folder / "record.json").read_bytes() == before
    assert list(json.loads(before)["study"]["students"]) == ["G4", "B2"]


@pytest.mark.parametrize("finished", [True, False])
def test_the_report_of_a_record_needs_nothing_else(
    finished: bool,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not finished:
        unfinish(root)
    folder = saved(root)
    shutil.rmtree(root / "results")
    shown = []

    def render(source: Path, parameters: dict[str, Any], *, html: Path, **others: object) -> None:
        results = load_results(**parameters)
        shown.append((results.partial, len(results.count("completed")), html))

    monkeypatch.setattr(report_stage, "render_notebook", render)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "--records", str(folder)]) == 0
    html = Path("results/digits/report-records.html")
    assert shown == [(not finished, 13 if finished else 12, html)]
    assert capsys.readouterr().out == f"{html}\n"


def test_the_report_of_no_record_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--records", "records/none"]) == 2
    assert "records/none/record.json" in capsys.readouterr().err


def test_reports_tell_what_was_restored_from_what_was_restamped(root: Path) -> None:
    uses = [
        {"when": "2026-11-28T10:00:00+00:00", "reason": "docstring only", "nodes": ["a"]},
        {
            "when": "2026-11-29T10:00:00+00:00",
            "reason": "Made by other code.",
            "nodes": ["a", "b"],
            "restored": True,
        },
    ]
    (root / "results/digits/restamps.json").write_text(json.dumps(uses))
    with recorded_results(saved(root)) as found:
        notices = sections.notices(found).html
    assert "re-stamped:</b> on 2026-11-28 1 node declared valid" in notices
    assert (
        "restored:</b> on 2026-11-29 2 nodes taken from a record, and not run here. Made by other code."
        in notices
    )
