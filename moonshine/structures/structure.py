"""What a network is, as its ``structure.json`` says: enough to rebuild it without pickle. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from moonshine.fields import Whole
from moonshine.json_model import JsonModel

REBUILT_FROM = {"network", "kwargs", "num_classes", "in_channels", "source_sha256", "blocks"}


class ScoredMixture(JsonModel):
    """A mixture that a search scored: ``fisher`` is the mean over so many initialisations.

    ``error`` is a finalist's validation error in percent, None for one that diverged or was not trained.
    """

    blocks: dict[str, str]
    parameters: int
    macs: int
    fisher: float
    initialisations: int
    error: float | None = None


class SearchRecord(JsonModel):
    """What a search chose, the first of each other score, and how the candidates were drawn.

    ``winners`` maps a score to the candidate that it puts first: the plain ones and, where it was asked for, Fisher.
    ``spearman`` is the rank correlation of Fisher potential (at the first initialisation) with parameters and with
    MACs over all candidates; None where one of the two is the same for all, or Fisher was not asked for. ``measure``
    to ``refused`` are as in `moonshine.search.sampling.Sample`. ``settings`` are the study's; ``images`` is how many
    the candidates were scored on, where these were fewer than asked for. ``left_out`` says why blocks do not fit at
    some places: place -> block -> reason.
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


class Structure(JsonModel):
    """A network by name with a block, in the paper's notation, at each of its places.

    Of a third-party model also: its builder's ``kwargs``; the checksums of the user's modules that build it, by name;
    and the reason for each convolution that was ``kept`` or, for the block asked for, ``refused``. ``block`` is that
    block, or ``mixed``, with the ``search`` that chose one for each place.
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

    def with_blocks(self, blocks: Mapping[str, str], **changes: Any) -> Structure:
        """Return the same network with other blocks at some of its places, and with other changes."""
        return self.model_copy(update={"blocks": {**self.blocks, **blocks}, **changes})

    def rebuilt_from(self) -> dict[str, Any]:
        """Return the part that a network is rebuilt from, as JSON holds it."""
        return self.model_dump(mode="json", include=REBUILT_FROM, exclude_unset=True)


class StudyStructure(Structure):
    """The structure of a study's teacher or student: its taps, and its size at the study's input (C, H, W)."""

    block: str
    taps: tuple[str, ...]
    input_shape: tuple[int, int, int]
    parameters: int
    macs: int
    ops: int


class ExportedStructure(Structure):
    """The structure beside exported weights, with what the network takes, see `moonshine.formats.about.About`."""

    input: dict[str, Any]
