"""Mixed students in the report: what was chosen at every place, and what the baselines would have chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moonshine_workflow.graph import nodes
from moonshine_workflow.report.results import load_results
from moonshine_workflow.report.searches import searches
from moonshine_workflow.tables.collect import collect, write_tables
from tests.workflow.fake_results import SIZES, make_study, table_rows, write_results

BUDGET = ["200k params", "5ms"]
BLOCKS = {"stage1.0": "G(4)", "stage2.0": "G(4)", "stage3.0": "BG(2,M/8)"}
CHOSEN = {"blocks": BLOCKS, "parameters": 199_000, "macs": 28_000_000, "fisher": 0.0123, "initialisations": 1}
OTHER = {**CHOSEN, "blocks": {**BLOCKS, "stage1.0": "S"}, "parameters": 200_000, "fisher": 0.01}
SEARCH: dict[str, Any] = {
    "settings": {"budget": BUDGET, "score": "fisher"},
    "score": "fisher",
    "finalists": [],
    "drawn": 60,
    "refused": {},
    "measure": "parameters",
    "window": [195_000.0, 200_000.0],
    "widened": False,
    "log10_networks": 3.4,
    "candidates": 60,
    "chosen": CHOSEN,
    "winners": {"fisher": CHOSEN, "parameters": OTHER},
    "spearman": {"parameters": 0.25, "macs": None},
}


def section(root: Path, blocks: dict[str, str] = BLOCKS, **changes: Any) -> str:
    study = make_study(students={"mix": {"mixed": {"budget": BUDGET}}, "G4": {"block": "G(4)"}})
    write_results(root, study, sizes={**SIZES, "mix": (199_000, 28_000_000)})
    for folder in [
        nodes.structure(study.study, "mix").outputs[0].parent,
        *(root / "results").rglob("mix/*/seed*"),
    ]:
        path = root / folder / "structure.json"
        about = json.loads((root / nodes.structure(study.study, "mix").outputs[0]).read_text())
        path.write_text(json.dumps({**about, "blocks": blocks, "search": {**SEARCH, **changes}}))
    write_tables(collect(study, root), root / "results" / study.study)
    return str(searches(load_results(study.study, root)).html)


def test_a_mixed_student_shows_its_budget_its_blocks_and_its_rivals(tmp_path: Path) -> None:
    said = section(tmp_path)
    assert "Budget 200k params and 5ms: 1 × BG(2,M/8), 2 × G(4)." in said
    assert "60 candidates drawn from 10^3.4 networks of 195,000 to 200,000" in said
    assert "rank correlation of Fisher potential 0.25 with parameters" in said
    assert "with macs" not in said
    assert table_rows(said) == [
        ["most by fisher (chosen)", "199,000", "28.0", "0.0123"],
        ["most by parameters", "200,000", "28.0", "0.01"],
        *([path, block] for path, block in BLOCKS.items()),
    ]


def test_a_widened_window_is_said(tmp_path: Path) -> None:
    assert "widened" not in section(tmp_path)
    assert "(widened: the window asked for was empty)" in section(tmp_path, widened=True)


def test_a_search_that_chose_one_block_everywhere_is_shown_too(tmp_path: Path) -> None:
    assert "2 × G(4)." in section(tmp_path, {"stage1.0": "G(4)", "stage2.0": "G(4)"})


def test_blocks_that_the_study_gives_are_shown_without_a_search(tmp_path: Path) -> None:
    study = make_study(students={"mine": {"blocks": {"stage1.*": "G(4)", "*": "S"}}})
    write_results(tmp_path, study, sizes={**SIZES, "mine": (199_000, 28_000_000)})
    path = tmp_path / nodes.structure(study.study, "mine").outputs[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), "block": "mixed", "blocks": BLOCKS}))
    write_tables(collect(study, tmp_path), tmp_path / "results" / study.study)
    said = str(searches(load_results(study.study, tmp_path)).html)
    assert "<h3>mine</h3>" in said
    assert "Blocks that the study gives:" in said
    assert table_rows(said) == [[path, block] for path, block in BLOCKS.items()]


def test_names_from_the_study_are_text(tmp_path: Path) -> None:
    said = section(tmp_path, {"<b>layer": "G(4)"})
    assert "&lt;b&gt;layer" in said
    assert "<b>layer" not in said


def test_without_mixed_students_there_is_no_section(tmp_path: Path) -> None:
    study = make_study()
    write_results(tmp_path, study)
    write_tables(collect(study, tmp_path), tmp_path / "results" / study.study)
    assert str(searches(load_results(study.study, tmp_path)).html) == ""


def test_blocks_that_were_left_out_have_their_reasons(tmp_path: Path) -> None:
    assert "do not fit everywhere" not in section(tmp_path / "all")
    said = section(tmp_path / "some", left_out={"stage1.0": {"G(32)": "32 groups do not divide <16>"}})
    assert table_rows(said)[-1] == ["stage1.0", "G(32)", "32 groups do not divide &lt;16&gt;"]
