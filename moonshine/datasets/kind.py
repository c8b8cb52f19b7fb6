"""Kind of dataset: a section of the study, and the source of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import Field, model_validator

from moonshine.errors import MoonshineError, first_few
from moonshine.fields import Section, Seed, Share, Side, Whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

SceneFiles = tuple[str, str]
"""The file names of an image and of its label map."""
MAP_CLASSES = 255
"""Most classes of label maps: they have 8 bits, and one id is void."""


class Normalisation(Section):
    """Mean and standard deviation per channel of pixels in [0, 1], as a teacher's weights were trained with."""

    mean: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]
    std: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _same_channels(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} values and std {len(self.std)}; allowed: one of each per channel"
            )
        return self


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """Decoded images: split -> images, uint8 (N, H, W) or (N, H, W, C), and labels (N,) or (N, 1).

    ``where`` names the origin in errors (a path). In all sources ``description`` names it in words that are the same
    on every machine, ``sha256`` is its checksum, of one file or by file name, and the splits are train, test and, if
    the source has its own, validation. ``class_names`` None: the labels themselves. ``size``: side that images are
    resized to; ``channels``: number of channels, to convert grey images to colour.
    """

    where: str
    splits: Mapping[str, tuple[Any, Any]]
    description: str
    sha256: str | Mapping[str, str]
    class_names: Sequence[str] | None = None
    size: int | None = None
    channels: int | None = None


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Encoded images: split -> their content, or, with ``root``, their files below it; and labels (N,).

    An image becomes an input by resizing its shorter side to ``resize`` pixels and keeping the centre ``crop`` x
    ``crop``.
    """

    root: str | None
    splits: Mapping[str, tuple[Sequence[bytes] | Sequence[str], Sequence[int]]]
    resize: int
    crop: int
    description: str
    sha256: str
    class_names: Sequence[str]

    @property
    def where(self) -> str:
        """The origin in errors."""
        return str(Path(self.root or "generated images").expanduser())


@dataclass(frozen=True, eq=False)
class Scenes:
    """Images with label maps: split -> the names of both, files below ``root`` or keys of ``contents``.

    ``ids`` maps the labels in the files to classes; ``void`` labels belong to no class, any others are errors. Classes
    from ``scored`` on have an output of the network but are neither trained nor scored. ``size`` None: images keep
    their size, which must be the same for all.
    """

    root: Path
    splits: Mapping[str, Sequence[SceneFiles]]
    ids: Mapping[int, int]
    void: frozenset[int]
    scored: int
    description: str
    sha256: str
    class_names: Sequence[str]
    size: Sequence[int] | None = None
    contents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The origin in errors."""
        return str(self.root)

    def file(self, name: str) -> Path | BytesIO:
        """Return the file, or the content, of a name."""
        return BytesIO(self.contents[name]) if name in self.contents else self.root / name


@dataclass(frozen=True)
class DatasetSize:
    """Images per split, (channels, height, width) of an image in evaluation, and number of classes."""

    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    validation: int = 0


class DataSection(Section):
    """The section ``data`` of a study: a kind of dataset, with its keys.

    A kind is a subclass in a file of this folder, and is listed in ``Data`` (`moonshine.datasets`). ``is_dense``: every
    pixel has a label. ``is_encoded``: images are decoded during training, not ahead. ``limit`` is the most images of a
    split that are used, for a first try.
    """

    is_dense: ClassVar[bool] = False
    is_encoded: ClassVar[bool] = False

    name: str
    validation: Share
    split_seed: Seed
    limit: Whole | None = None
    normalisation: Normalisation | None = None

    @classmethod
    def called(cls) -> tuple[str, ...]:
        """Return the names of the kind in a study, with ``kind`` if a name has several."""
        names, kinds = (
            get_args(cls.model_fields[key].annotation) if key in cls.model_fields else ()
            for key in ("name", "kind")
        )
        return tuple(f"{name} {kind}" for name in names for kind in kinds) or names

    def source(self) -> ImageArrays | ImageFiles | Scenes:
        """Find and verify the images, without running code of the user's and without torch.

        MoonshineError, naming the key, the value found and what is allowed, for a source that is missing, damaged,
        incomplete or has another checksum than the study.
        """
        raise NotImplementedError

    def public_size(self) -> DatasetSize | None:
        """Return the size of a public dataset before a validation split; None for the user's own data."""
        return None


class CroppedImages(DataSection):
    """Images of any size: the shorter side is resized to ``resize`` pixels, then the centre ``crop`` square is kept."""

    resize: Side
    crop: Side

    @model_validator(mode="after")
    def _crop_fits(self) -> CroppedImages:
        if self.crop > self.resize:
            raise ValueError(
                f"crop: found {self.crop}; allowed: 8 to {self.resize}, which is resize, the shorter side"
            )
        return self


class UnreadableImages(MoonshineError):
    """Images below ``where`` that cannot be read; ``failures``: file -> reason."""

    def __init__(self, where: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        count = len(failures)
        super().__init__(
            f"{where}: {count} {'image' if count == 1 else 'images'} cannot be read: "
            + first_few([f"{name} ({reason})" for name, reason in failures.items()])
            + "; repair or remove them (the checksum changes with that)"
        )


def check_checksum(what: str, found: str, stated: str) -> None:
    """MoonshineError unless the checksum of the user's data is the study's."""
    if found != stated:
        raise MoonshineError(
            f"data.sha256: {what} the checksum {found}, the study says {stated}: the data are changed, damaged or not "
            "the intended ones (if they are, write their checksum into the study)"
        )
