"""The state of the study according to Snakemake: its jobs, and which of them it would run."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from moonshine.errors import MoonshineError
from moonshine_workflow.graph.library import library_path

PROFILE = Path("profiles") / "default" / "profile.yaml"


@dataclass(frozen=True)
class JobState:
    """One job; ``name`` is what DVC calls the same stage.

    ``due`` says that Snakemake would run it, ``recorded`` that it knows how the outputs were made. The rest says in
    what the job differs from that record: inputs whose content changed, inputs added or removed, and anything else.
    """

    name: str
    command: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, Any]
    log: str
    due: bool
    recorded: bool
    changed_inputs: frozenset[str]
    other_changes: tuple[str, ...]


def jobs() -> list[JobState]:
    """The jobs of the graph in the current folder, every one; nothing is run.

    Errors: ``MoonshineError`` when Snakemake cannot read the workflow.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import DAGSettings, OutputSettings, ResourceSettings
    from snakemake_interface_common.exceptions import WorkflowError

    said = io.StringIO()  # a dry run prints its plan whatever the settings say
    try:
        with (
            redirect_stdout(said),
            redirect_stderr(said),
            SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api,
        ):
            workflow = api.workflow(ResourceSettings(cores=1), snakefile=Path("Snakefile"))
            dag = workflow.dag(DAGSettings(max_checksum_file_size=_checksum_limit()))
            dag.execute_workflow(executor="dryrun")
            private = workflow._workflow  # the API itself tells no more than success
            due = {id(job) for job in private.dag.needrun_jobs(exclude_finished=False)}
            return [_job(job, private, id(job) in due) for job in private.dag.jobs if job.rule.name != "all"]
    except WorkflowError as error:
        raise MoonshineError(f"Snakemake: {error}") from None


def _job(job: Any, workflow: Any, due: bool) -> JobState:
    records, reason = workflow.persistence, workflow.dag.reason(job)
    recorded = bool(records.has_metadata(job))
    inputs = {str(path) for path in job.input}
    changed = {str(path) for path in reason.updated_input}
    if recorded:
        for output in job.output:
            changed |= inputs ^ {str(path) for path in records.input(output) or ()}
    # Snakemake itself stops looking at the first difference
    others = {
        "missing outputs": reason.missing_output,
        "incomplete outputs": reason.incomplete_output,
        "parameters": recorded and records.params_changed(job),
        "command": recorded and any(records.code_changed(job, file=path) for path in job.output),
    }
    arguments = "-".join(str(value) for value in job.wildcards_dict.values())
    return JobState(
        # the name of a rule is a Python identifier
        name=f"{job.rule.name.replace('_', '-')}@{arguments}",
        command=job.shellcmd,
        inputs=tuple(sorted(map(library_path, inputs))),
        outputs=tuple(sorted(str(path) for path in job.output)),
        params=_params(job.params),
        log=str(job.log),
        due=due,
        recorded=recorded,
        changed_inputs=frozenset(map(library_path, changed)),
        other_changes=tuple(name for name, found in others.items() if found),
    )


def _params(params: Iterable[str]) -> dict[str, Any]:
    """The rules give each parameter as JSON: ``{"methods.at": {...}}``."""
    found: dict[str, Any] = {}
    for text in params:
        found |= json.loads(text)
    return found


def _checksum_limit() -> int:
    """Up to how many bytes files are compared by content: what the profile says, which wrote the records."""
    return int(yaml.safe_load(PROFILE.read_text(encoding="utf-8"))["max-checksum-file-size"])
