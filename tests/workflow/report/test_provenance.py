"""Which networks share a training recipe."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from moonshine_workflow.report.provenance import recipes
from moonshine_workflow.report.results import Results


def test_a_recipe_stored_before_a_setting_existed_is_the_same_recipe() -> None:
    adam = {"kind": "adam", "lr": 0.1, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
    schedule = {"kind": "one-cycle", "warmup": 0.3, "start": 0.1, "end": 0.01}
    older = {"epochs": 2, "batch_size": 32, "optimizer": adam, "schedule": schedule, "precision": "fp32"}
    newer = {**older, "label_smoothing": 0.0, "clip_norm": None}
    other = {**older, "label_smoothing": 0.1}
    runs = [
        SimpleNamespace(student=name, training=kept)
        for name, kept in (("a", older), ("b", newer), ("c", other))
    ]
    results: Any = SimpleNamespace(runs=runs, labels={}, config=lambda run: {"training": run.training})
    assert list(recipes(cast(Results, results)).values()) == [["a", "b"], ["c"]]
