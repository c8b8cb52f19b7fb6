"""Loading of a study's prepared data: verified, and prepared again if missing or damaged."""

from __future__ import annotations

import os
import shutil

from filelock import FileLock

from moonshine.config import Study
from moonshine.data.description import Description
from moonshine.data.store import ARRAYS, DESCRIPTION, Dataset, LostArrays, load_dataset
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes, stage


def load_prepared(study: Study) -> Dataset:
    """Return the prepared data of a study; if data.safetensors is missing or damaged, prepare it again first.

    The result must have the checksum in dataset.json. Nodes depend on that file alone, so data that were damaged, or
    removed to save space, repeat no training; if an engine ran ``fetch`` again instead, Snakemake would train
    everything after it. Raises MoonshineError if the data come out differently.
    """
    node = nodes.fetch(study.study)
    try:
        return load_dataset(node.folder)
    except LostArrays:
        node.work.mkdir(parents=True, exist_ok=True)
        with FileLock(node.work / "lock"):
            try:
                return load_dataset(node.folder)  # another node may have prepared them meanwhile
            except LostArrays as lost:
                stage.logger.warning("%s; preparing them again", lost)
                _restore(study, node)
        return load_dataset(node.folder)


def _restore(study: Study, node: nodes.Node) -> None:
    from moonshine.preparation.prepare import prepare_dataset

    wanted = Description.read(node.folder / DESCRIPTION).sha256[ARRAYS]
    draft = node.work / "draft"
    try:
        shutil.rmtree(draft, ignore_errors=True)  # left by a process that was killed
        found = prepare_dataset(study.data, draft).sha256[ARRAYS]
        if found != wanted:
            raise MoonshineError(
                f"{node.folder / ARRAYS}: prepared again, it has the checksum {found}; {DESCRIPTION} says {wanted}. "
                "The data or the code that prepares them have changed, so everything made from them is out of date: "
                "run snakemake --forcerun fetch, or dvc repro --force --single-item fetch"
            )
        os.replace(draft / ARRAYS, node.folder / ARRAYS)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
