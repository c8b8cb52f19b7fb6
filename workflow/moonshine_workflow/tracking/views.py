"""Saved views of a study's experiment in MLflow's UI, each a link and an entry of the "Views" menu.

MLflow keeps a saved view as an experiment tag: a name, a time and the serialised state of the page (columns,
order, filter, charts). They are written here as the UI of MLflow 3.17 writes them. The state has no public
description; a UI that does not understand it shows the plain table of runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

TAG_PREFIX = "mlflow.sharedViewState."
NOTE = "mlflow.note.content"
COLUMNS = (
    *(f"metrics.`{name}`" for name in ("test_error_pct", "parameters", "macs", "megabytes")),
    *(f"tags.`{name}`" for name in ("network", "block", "method", "seed", "status")),
)
CURVES = ("validation_error_pct", "train_error_pct", "loss", "validation_loss")
# A saved view must have a time, and the menu lists the newest first.
NEWEST = 1_700_000_000_000


@dataclass(frozen=True)
class View:
    """Named view: ``key`` identifies it in its address, ``state`` is what MLflow's page restores."""

    key: str
    title: str
    state: dict[str, Any]

    def link(self, experiment_id: str, server: str = "") -> str:
        """Return the view's address, relative to the UI unless ``server`` is given."""
        mode = "CHART" if self.state["compareRunCharts"] else "TABLE"
        query = {"viewStateShareKey": self.key, "compareRunsMode": mode, "workflowType": "machine_learning"}
        return f"{server}#/experiments/{experiment_id}/runs?{urlencode(query)}"


def views(students: Mapping[str, str]) -> list[View]:
    """Return the views of a study; ``students`` maps a student's key to its display name."""
    sizes = [_scatter("parameters"), _scatter("macs")]
    found = [
        View("students-by-test-error", "Students by test error", _state()),
        View("error-against-parameters", "Error against parameters", _state(sizes, mean_by="label")),
    ]
    for student, name in students.items():
        curves = _state([_line(c) for c in CURVES], where=f"tags.student = '{student}'", mean_by="method")
        found.append(View(f"curves-{student}", f"Curves of {name}", curves))
    return found


def experiment_tags(found: Sequence[View], experiment_id: str) -> dict[str, str]:
    """Return the tags of an experiment that hold its views, and its description, which links to them."""
    tags = {"mlflow.experimentKind": "custom_model_development"}
    for order, view in enumerate(found):
        envelope = {"name": view.title, "createdAt": NEWEST - order, "state": json.dumps(view.state)}
        tags[TAG_PREFIX + view.key] = json.dumps(envelope)
    tags[NOTE] = " · ".join(f"[{view.title}]({view.link(experiment_id)})" for view in found)
    return tags


def _state(charts: Sequence[dict[str, Any]] = (), where: str = "", mean_by: str = "") -> dict[str, Any]:
    """Return the page's state: runs by test error; charts show the mean of the runs that share a tag."""
    groups = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": mean_by}]}
    section = {"uuid": "charts", "name": "Charts", "display": True, "isReordered": False, "columns": 2}
    return {
        "searchFilter": where,
        "orderByKey": "metrics.`test_error_pct`",
        "orderByAsc": True,
        "selectedColumns": list(COLUMNS),
        "columnOrder": list(COLUMNS),
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": groups if mean_by else None,
        "compareRunCharts": [{**chart, "uuid": f"chart-{n}"} for n, chart in enumerate(charts)] or None,
        "compareRunSections": [{**section, "deleted": False}] if charts else None,
    }


def _chart(kind: str, **settings: Any) -> dict[str, Any]:
    card = {"type": kind, "metricSectionId": "charts", "deleted": False, "isGenerated": False}
    return {**card, "runsCountToCompare": 1000, **settings}


def _scatter(size: str) -> dict[str, Any]:
    error = {"key": "test_error_pct", "type": "METRIC"}
    return _chart("SCATTER", xaxis={"key": size, "type": "METRIC"}, yaxis=error)


def _line(metric: str) -> dict[str, Any]:
    return _chart("LINE", metricKey=metric, xAxisKey="step", lineSmoothness=0)
