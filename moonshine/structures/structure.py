"""Structure of a network, the content of ``structure.json``: enough to rebuild it without pickle. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from moonshine.fields import Whole
from moonshine.json_model import JsonModel

MIXED = "mixed"
"""``block`` of a structure with several."""
REBUILT_FROM = {"network", "kwargs", "num_classes", "in_channels", "source_sha256", "blocks"}


class ScoredMixture(JsonModel):
    """Mixture scored by a search: ``fisher`` is the mean over ``initialisations``.

    ``error`` is a finalist's validation error in percent, None for one that diverged or was not trained.
    """

    blocks: dict[str, str]
    parameters: int
    macs: int
    fisher: float
    initialisations: int
    error: float | None = None


class SearchRecord(JsonModel):
    """Record of a search: its choice, the winner of every score, and the sampling of the candidates.

    ``winners`` maps a score to its best candidate: the plain scores and, if it was computed, Fisher. ``spearman`` is
    the rank correlation of Fisher potential (at the first initialisation) with parameters and with MACs over all
    candidates; None if one of the two is constant or Fisher was not computed. ``measure`` to ``refused`` are as in
    `moonshine.search.sampling.Sample`. ``settings`` are the study's; ``images`` is the number of images that the
    candidates were scored on, if fewer than asked for. ``left_out`` maps place -> block -> reason why it does not fit.
    """

    only_given: ClassVar[bool] = True
    score: str
    chosen: ScoredMixture
    winners: dict[str, ScoredMixture]
    finalists: tuple[ScoredMixture, ...]
    spearman: dict[str, float | None]
    candidates: int
    measure: str | None
    window: tuple[int | float, int | float] | None
    widened: bool
    log10_networks: float
    drawn: int
    refused: dict[str, int]
    settings: Mapping[str, Any] = {}
    images: int | None = None
    left_out: Mapping[str, Mapping[str, str]] = {}


class Start(JsonModel):
    """Weights that a network started from: the file's name and checksum, and the number of tensors ``loaded`` from it.

    ``drawn`` are the tensors of a new head; ``frozen`` are the layers that training left as they were.
    """

    weights: str
    sha256: str
    loaded: int
    drawn: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()


class Structure(JsonModel):
    """Network by name with a block, in the paper's notation, at each of its places.

    For a third-party model also its builder's ``kwargs``; the checksums of the user's modules that build it, by name;
    and the reason for each convolution that was ``kept`` or, for the block asked for, ``refused``. ``block`` is that
    block, or ``mixed``; ``search`` is the record of a search for one at each place. ``compress`` says how its weights
    are compressed once it is trained.
    """

    only_given: ClassVar[bool] = True
    network: str
    num_classes: Whole
    in_channels: Whole
    blocks: dict[str, str]
    kwargs: Mapping[str, Any] = {}
    source_sha256: dict[str, str] | None = None
    kept: Mapping[str, str] = {}
    refused: Mapping[str, str] = {}
    block: str | None = None
    search: SearchRecord | None = None
    compress: Mapping[str, Any] | None = None

    def with_blocks(self, blocks: Mapping[str, str], **changes: Any) -> Structure:
        """Return the same network with other blocks at some of its places, and with other changes."""
        return self.model_copy(update={"blocks": {**self.blocks, **blocks}, **changes})

    def rebuilt_from(self) -> dict[str, Any]:
        """Return the part from which a network is rebuilt, as JSON values."""
        return self.model_dump(mode="json", include=REBUILT_FROM, exclude_unset=True)


class StudyStructure(Structure):
    """Structure of a study's teacher or student, with its taps and its size at the study's input (C, H, W).

    ``start``: the weights that a pretrained teacher started from.
    """

    block: str
    taps: tuple[str, ...]
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    ops: int
    start: Start | None = None


class ExportedStructure(Structure):
    """Structure beside exported weights, with the network's input and output, see `moonshine.formats.about.About`."""

    input: dict[str, Any]
