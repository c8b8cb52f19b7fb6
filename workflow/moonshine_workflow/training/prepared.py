"""A study's prepared data as nodes load them: verified, and prepared again where they are missing or damaged."""

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
    """The prepared data of a study; data.safetensors that are missing or damaged are first prepared again.

    To the same bytes, which dataset.json tells: nodes depend on that file alone, so that data which were damaged, or
    removed to save room, repeat no training. An engine's own way, to run ``fetch`` again, would under Snakemake
    train everything after it. MoonshineError where the data cannot be prepared as they were.
    """
    node = nodes.fetch(study.study)
    try:
        return load_dataset(node.folder)
    except LostArrays:
        node.work.mkdir(parents=True, exist_ok=True)
        with FileLock(node.work / "lock"):
            try:
                return load_dataset(node.folder)  # another node may have been faster
            except LostArrays as lost:
                stage.logger.warning("%s; now preparing them again", lost)
                _restore(study, node)
        return load_dataset(node.folder)


def _restore(study: Study, node: nodes.Node) -> None:
    from moonshine.preparation.prepare import prepare_dataset

    wanted = Description.read(node.folder / DESCRIPTION).sha256[ARRAYS]
    draft = node.work / "draft"
    try:
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed here
        found = prepare_dataset(study.data, draft).sha256[ARRAYS]
        if found != wanted:
            raise MoonshineError(
                f"{node.folder / ARRAYS}: cannot be prepared as it was: it would have the checksum {found}, "
                f"{DESCRIPTION} says {wanted}; the data, or what prepares them, have changed, so all that was made of "
                "them is due again: snakemake --forcerun fetch, or dvc repro --force --single-item fetch"
            )
        os.replace(draft / ARRAYS, node.folder / ARRAYS)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
