"""Helpers of the Snakemake rules: parameters as text, wildcard patterns, the environment of their commands."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from moonshine.config import Study
from moonshine.files import write_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import IN_CLONE
from moonshine_workflow.graph.nodes import Node
from moonshine_workflow.graph.parameters import parameter, resolved_values

GPU_DRIVER = Path("/dev/nvidiactl")


def prepare_environment(folder: str) -> None:
    """Set what the commands of Snakemake's jobs inherit; ``folder`` is that of the Snakefile."""
    os.environ["PATH"] = path_with_this_python()
    os.environ["MOONSHINE_ENGINE"] = "snakemake"
    if (folder / IN_CLONE).is_dir():
        # commands run this clone's own package, whichever clone the virtual environment was made for
        paths = [f"{folder}/workflow", *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def keep(study: Study) -> None:
    """Keep a copy of the study for the commands of Snakemake's jobs, so that later edits of params.yaml do no harm."""
    settings = resolved_values(study)
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(".snakemake") / "moonshine-params" / f"{name}.json"
    write_json(path, settings, sort_keys=False)  # tables and report have the study's order
    os.environ[nodes.PARAMS_VARIABLE] = str(path)


def path_with_this_python() -> str:
    """Return a ``PATH`` on which ``python``, as in both engines' commands, is this interpreter."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def any_of(names: Iterable[object]) -> str:
    """A regular expression for exactly these names; for none of them, one that nothing matches."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def setting(settings: dict[str, Any], key: str) -> Callable[[Mapping[str, str]], str]:
    """A parameter as a function of a job's wildcards, which fill in ``key``: ``{"methods.at": {...}}`` as JSON.

    Snakemake compares parameters as text and without their names: a re-ordered mapping in params.yaml is no change.
    ``settings`` are those of `moonshine_workflow.graph.parameters.parameters`.
    """

    def value(wildcards: Mapping[str, str]) -> str:
        path = key.format(**wildcards)
        return json.dumps({path: parameter(settings, path)}, sort_keys=True)

    return value


def files(made: Iterable[Node], *names: str) -> list[str]:
    """The paths of the files of these names among the nodes' outputs."""
    return [path.as_posix() for node in made for path in node.outputs if path.name in names]


def missing(study: Study) -> list[str]:
    """Return the missing outputs; prepared data may be removed to save space."""
    data = nodes.fetch(study.study).folder / "data.safetensors"
    expected = {path for node in nodes.all_nodes(study) for path in node.outputs} - {data}
    return sorted(path.as_posix() for path in expected if not path.exists())


def cores(study: Study) -> int:
    """Return the number of cores that one training process uses: its threads and its decoding processes."""
    runtime = study.runtime
    workers = runtime.threads if runtime.workers is None else runtime.workers
    return runtime.threads + workers * study.data.is_encoded


def priority(study: Study, seed: str) -> int:
    """Return the Snakemake priority of a node of a seed: whole seeds first, so that a partial report can compare."""
    return -study.seeds.index(int(seed))


def has_finalists(study: Study, student: str) -> bool:
    """Whether the search for a student trains some of its candidates."""
    mixed = study.students[student].mixed
    return mixed is not None and mixed.finalists is not None


def gpus(study: Study, elsewhere: bool) -> int:
    """Return the GPUs of a training device: 1 if the machine may have any; ``elsewhere``: on another machine."""
    device = study.runtime.device
    return int(device.startswith("cuda") or (device == "auto" and (elsewhere or GPU_DRIVER.exists())))
