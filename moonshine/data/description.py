"""Description of prepared data, the content of ``dataset.json``. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from moonshine.fields import Whole
from moonshine.json_model import JsonModel


class Description(JsonModel):
    """Shape, classes and origin of prepared data; `moonshine.data.store.Dataset` explains the fields that both have.

    ``counts`` has the number of images of each split, of which the study's ``limit`` is the most. ``sha256`` maps the
    arrays' file, once written, to its checksum, and ``source`` to that of the original data, or to one per file.
    ``root`` is the folder of images that stay encoded.
    """

    only_given: ClassVar[bool] = True
    name: str
    counts: dict[str, int]
    limit: int | None = None
    channels: Whole
    height: Whole
    width: Whole
    root: str | None = None
    resize_rule: Mapping[str, Any] = {}
    num_classes: Whole
    scored_classes: int | None = None
    class_names: tuple[str, ...]
    class_shares: tuple[float, ...] = ()
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str
    sha256: Mapping[str, Any] = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        return self.channels, self.height, self.width
