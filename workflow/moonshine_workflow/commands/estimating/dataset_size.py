"""Size of a study's dataset, prepared or not: number of images, their shape, number of classes."""

from __future__ import annotations

from dataclasses import dataclass

from moonshine.config import Study
from moonshine.data.description import Description
from moonshine.errors import MoonshineError
from moonshine_workflow.graph import nodes


@dataclass(frozen=True)
class DatasetSize:
    """Number of images per split, (channels, height, width) of one in evaluation, number of a network's outputs."""

    train: int
    validation: int
    test: int
    shape: tuple[int, int, int]
    classes: int


def dataset_size(study: Study) -> DatasetSize:
    """Return the size of the prepared dataset, or of a public one that is not prepared yet.

    MoonshineError for a dataset of the user's own that is not prepared.
    """
    fetch = nodes.fetch(study.study)
    if fetch.is_done():
        found = Description.read(fetch.folder / "dataset.json")
        return DatasetSize(**found.counts, shape=found.image_shape, classes=found.num_classes)
    public = study.data.public_size()
    if public is None:
        raise MoonshineError(
            f"data.name: the size of {study.data.name} is not known before it is prepared; allowed: run `snakemake "
            f"results/{study.study}/data/dataset.json` or `dvc repro fetch` first"
        )
    validation = round(public.train * study.data.validation)
    return DatasetSize(public.train - validation, validation, public.test, public.shape, public.classes)
