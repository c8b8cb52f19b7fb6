"""Model card of an exported network, in Markdown: what it is, what it was made from, and how accurate it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moonshine.export.latency_table import latency_section
from moonshine.export.receipts import Exported
from moonshine.export.timings import Timing
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS


@dataclass(frozen=True)
class Card:
    """Content of a model card; test errors in percent, ``interval`` at 95 % over seeds.

    In semantic segmentation the error is 100 - mIoU.
    """

    name: str
    teacher: str
    blocks: Mapping[str, str]  # place -> block
    parameters: int
    macs: int
    data: str
    data_sha256: str | Mapping[str, str]  # one checksum, or one by file name
    examples: Mapping[str, int]  # split -> images
    method: str
    recipe: Mapping[str, Any]  # as in the study; sections may be mappings
    seeds: Sequence[int]
    seed: int  # of these files
    error_mean_pct: float | None  # None: no seed has one
    interval: tuple[float, float] | None  # None: a single seed
    teacher_error_pct: float | None
    about: About
    exported: Exported
    budget: str | None = None
    counted: Sequence[str] = ()  # files that the budget limits: their error is what the card promises
    warnings: Sequence[str] = ()  # caveats, shown before the errors
    limits: Sequence[str] = ()  # the author's own, besides those that always hold
    timings: Sequence[Timing] = ()
    teacher_timings: Sequence[Timing] = ()


def model_card(card: Card) -> str:
    """Return the card as Markdown: the same text for the same card, with latencies only if it has timings."""
    sections = {
        f"# {card.name}": _summary(card),
        "## Network": _network(card),
        "## Input": _input(card.about),
        "## Data": _data(card),
        "## Training": _training(card),
        "## Test error": _errors(card),
        "## Files": _files(card),
        "## Latency": latency_section(card.timings, card.teacher_timings),
        "## Limits": _limits(card),
    }
    return "\n".join(f"{title}\n\n" + "\n".join(lines) + "\n" for title, lines in sections.items())


def _summary(card: Card) -> Iterator[str]:
    kinds = sorted(set(card.blocks.values()) - {"S"})
    made = f"with the cheap blocks {', '.join(kinds)}" if kinds else "with ordinary blocks"
    budget = f" Its budget was {card.budget}." if card.budget else ""
    kind = "A semantic segmentation network" if card.about.is_dense else "An image classifier"
    yield (
        f"{kind} with {len(card.about.class_names)} classes and {card.parameters:,} parameters, {made}; "
        f"its teacher was {card.teacher}.{budget}"
    )


def _network(card: Card) -> Iterator[str]:
    yield f"{card.parameters:,} trainable parameters; {card.macs:,} multiply-accumulates per image."
    yield f"SHA-256 of its structure: `{card.about.structure_sha256}`."
    yield ""
    yield from _table(("place", "block"), card.blocks.items())


def _input(about: About) -> Iterator[str]:
    yield f"* `images`: {about.values()['input']}."
    yield f"* Resizing of images: {_flat(about.resize_rule) or 'not recorded'}."
    shape = ", ".join(map(str, ("n", *about.logits_shape(0)[1:])))
    yield f"* `logits`: ({shape}), in the order {', '.join(about.class_names)}."
    if never := about.class_names[about.scored_classes :] if about.is_dense else ():
        yield f"* Outputs that are never correct: {', '.join(never)}."
    yield "* The safetensors file alone takes normalised pixels: " + (
        f"mean {_numbers(about.mean)}, standard deviation {_numbers(about.std)}."
    )


def _data(card: Card) -> Iterator[str]:
    counts = ", ".join(f"{count:,} {split}" for split, count in card.examples.items())
    yield f"{card.data}; images: {counts}."
    yield ""
    sums = {"SHA-256": card.data_sha256} if isinstance(card.data_sha256, str) else card.data_sha256
    yield from (f"* {name}: `{text}`" for name, text in sums.items())


def _training(card: Card) -> Iterator[str]:
    seeds = ", ".join(map(str, card.seeds))
    yield f"Method {card.method}; seeds {seeds}; these files are from seed {card.seed}."
    yield ""
    yield from _table(("setting", "value"), _leaves(card.recipe))


def _errors(card: Card) -> Iterator[str]:
    exported = card.exported
    if card.about.is_dense:
        yield (
            "The error is 100 - mIoU; mIoU is the mean, over the scored classes that occur, of intersection over union "
            "on all labelled test pixels."
        )
        yield ""
    for warning in card.warnings:
        yield f"* **{warning}**"
    share = "on" if card.about.is_dense else "of"
    for receipt in exported.receipts:
        if receipt.file in card.counted:
            yield (
                f"* The file that the budget limits, {receipt.file}: {receipt.error_pct:.2f} % {share} "
                f"{receipt.examples:,} test images, in its own runtime."
            )
    yield f"* This network: {exported.error_pct:.2f} % {share} {exported.examples:,} test images, in PyTorch."
    if card.error_mean_pct is None:
        yield "* No seed has a test error, so the mean over seeds is unknown."
    elif card.interval is None:
        yield f"* Only one seed has a test error ({card.error_mean_pct:.2f} %), so the spread over seeds is unknown."
    else:
        low, high = card.interval
        yield (
            f"* Mean over {len(card.seeds)} seeds: {card.error_mean_pct:.2f} %, 95 % interval {low:.2f} to "
            f"{high:.2f} %."
        )
    if card.teacher_error_pct is not None:
        yield f"* The teacher: {card.teacher_error_pct:.2f} %."
    for receipt in exported.receipts:
        if not (format := FORMATS[receipt.format]).is_exact:
            moved = receipt.error_pct - exported.error_pct
            yield f"* {format.title} changes the error by {moved:+.2f} points."


def _files(card: Card) -> Iterator[str]:
    yield "Each test error was measured by running the file itself, in its own runtime."
    yield ""
    columns = ("file", "format", "bytes", "largest logit difference", "test error %", "SHA-256")
    yield from _table(
        columns,
        (
            (
                receipt.file,
                receipt.format,
                f"{receipt.bytes:,}",
                f"{receipt.max_logit_difference:.2g}",
                f"{receipt.error_pct:.2f}",
                f"`{receipt.sha256}`",
            )
            for receipt in card.exported.receipts
        ),
    )
    if lines := list(_microcontroller(card)):
        yield from ("", *lines)


def _microcontroller(card: Card) -> Iterator[str]:
    for receipt in card.exported.receipts:
        found = receipt.tflm
        if isinstance(found, str):
            yield f"{receipt.file} was not run in TensorFlow Lite Micro: {found}"
        elif found:
            yield (
                f"{receipt.file} in TensorFlow Lite Micro: a test error of {found.error_pct:.2f} % on "
                f"{found.examples:,} images. Its int8 logits are those of LiteRT's reference kernels; from its fast "
                f"kernels the largest difference is {found.max_steps_apart} steps."
            )
            yield (
                f"It ran in {found.arena_bytes:,} bytes of RAM, {found.activation_bytes:,} of them for activations "
                f"and {found.interpreter_bytes:,} for the interpreter; stack, camera buffer and operating system are "
                "not in it."
            )


def _limits(card: Card) -> Iterator[str]:
    what = "Every pixel gets" if card.about.is_dense else "It predicts"
    yield f"* {what} one of its {len(card.about.class_names)} classes, whatever the image shows."
    yield "* The test error holds for images like the test images; for other images it is unknown."
    yield "* The probabilities were not calibrated."
    yield from (f"* {limit}" for limit in card.limits)


def _table(columns: Sequence[str], rows: Any) -> Iterator[str]:
    for row in (columns, ["---"] * len(columns), *rows):
        yield "| " + " | ".join(map(str, row)) + " |"


def _leaves(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _flat(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in _leaves(settings) if value is not None)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
