"""Size of a study's dataset, whether it is prepared yet or not."""

from __future__ import annotations

from dataclasses import replace

from moonshine.config import Study
from moonshine.data.description import Description
from moonshine.datasets.kind import DatasetSize
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes


def dataset_size(study: Study) -> DatasetSize:
    """Return the size of the prepared dataset, or of a public one that is not prepared yet.

    Raises MoonshineError for a dataset of the user's own that is not prepared.
    """
    fetch = nodes.fetch(study.study)
    if fetch.is_done():
        found = Description.read(fetch.folder / "dataset.json")
        return DatasetSize(**found.counts, shape=found.image_shape, classes=found.num_classes)
    public = study.data.public_size()
    if public is None:
        raise MoonshineError(
            f"data.name: the size of {study.data.name} is not known before it is prepared; first run `snakemake "
            f"results/{study.study}/data/dataset.json` or `dvc repro fetch`"
        )
    validation = round(public.train * study.data.validation)
    return replace(public, train=public.train - validation, validation=validation)
