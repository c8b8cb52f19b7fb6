"""The model card: every figure it was given, nothing it was not, and where the network is slower in words."""

import re
from dataclasses import replace

import pytest

from moonshine.export.card import Card, model_card
from moonshine.export.receipts import Exported, Receipt
from moonshine.export.timings import Latency, Timing
from moonshine.formats.about import About

RULE = {"resize": 256, "crop": [224, 224], "interpolation": "bilinear", "antialias": True}
CARD = Card(
    name="mix-200k of flowers",
    teacher="torchvision/resnet18",
    blocks={"layer1.0": "G(4)", "layer1.1": "S", "layer2.0": "BG(2,M)"},
    parameters=199_532,
    macs=31_415_926,
    data="flowers: image folder flowers",
    data_sha256="d" * 64,
    examples={"train": 4000, "validation": 500, "test": 1000},
    method="at",
    recipe={"epochs": 12, "optimizer": {"lr": 0.05, "nesterov": False}},
    seeds=(0, 1, 2),
    seed=1,
    error_mean_pct=12.345,
    interval=(11.1, 13.6),
    teacher_error_pct=10.04,
    about=About((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ("rose", "tulip"), RULE, None),
    exported=Exported(
        12.3,
        1000,
        (
            Receipt("onnx", "network.onnx", 801_234, "a" * 64, 3.2e-6, 12.3, 1000),
            Receipt("onnx-int8", "network-int8.onnx", 234_567, "b" * 64, 0.51, 12.7, 1000),
        ),
    ),
    budget="1MB onnx-int8",
    limits=("Flowers were photographed at noon.",),
)


def timing(format, *medians):
    rows = tuple(
        Latency(batch, median, 1.5 * median, 20, 90_000_000)
        for batch, median in zip((1, 32), medians, strict=True)
    )
    return Timing(format, f"network.{format}", 2, 65_000_000, rows)


def test_states_what_it_was_given():
    text = model_card(CARD)
    for stated in (
        "# mix-200k of flowers",
        "2 classes and 199,532 parameters, with the cheap blocks BG(2,M), G(4); its teacher was torchvision/resnet18",
        "Its budget was 1MB onnx-int8.",
        "31,415,926 multiply-accumulates",
        "| layer2.0 | BG(2,M) |",
        CARD.about.structure_sha256,
        "RGB float32 in [0, 1], (n, 3, 224, 224); normalised inside",
        "resize 256, crop [224, 224], interpolation bilinear, antialias True",
        "(n, 2), in the order rose, tulip",
        "mean 0.485, 0.456, 0.406, standard deviation 0.229, 0.224, 0.225",
        "flowers: image folder flowers; images: 4,000 train, 500 validation, 1,000 test",
        f"SHA-256: `{'d' * 64}`",
        "Method at; seeds 0, 1, 2; these files are from seed 1.",
        "| epochs | 12 |",
        "| optimizer.lr | 0.05 |",
        "This network: 12.30 % of 1,000 test images",
        "Mean over 3 seeds: 12.35 %, 95 % interval 11.10 to 13.60 %",
        "The teacher: 10.04 %",
        "INT8 ONNX changes the error by +0.40 points",
        f"| network-int8.onnx | onnx-int8 | 234,567 | 0.51 | 12.70 | `{'b' * 64}` |",
        "* Flowers were photographed at noon.",
    ):
        assert stated in text, stated
    assert text == model_card(replace(CARD))
    assert text.endswith("\n")
    assert not re.search(r"\n\n\n|[ \t]\n", text)


def test_latencies_stand_in_it_only_where_they_were_given():
    without = model_card(CARD)
    assert " ms" not in without
    assert "Not part of this card" in without
    text = model_card(replace(CARD, timings=(timing("onnx", 1.5, 30.0),)))
    assert "The teacher was not measured, so the two cannot be compared" in text
    assert "| onnx | 1 | 1.5 | 2.25 |  | 90.0 | 65.0 |" in text
    assert "threads: 2" in text


def test_says_in_words_where_it_is_slower_than_its_teacher():
    ours = (timing("onnx", 1.5, 30.0), timing("onnx-int8", 1.9, 70.0))
    theirs = (timing("onnx", 1.45, 50.0), timing("onnx-int8", 1.2, 60.0))
    text = model_card(replace(CARD, timings=ours, teacher_timings=theirs))
    assert re.findall(r"\* \*\*Slower than its teacher\*\* .*", text) == [
        "* **Slower than its teacher** as onnx-int8 at batch 1: 1.9 ms against 1.2 ms.",
        "* **Slower than its teacher** as onnx-int8 at batch 32: 70 ms against 60 ms.",
    ]
    assert "| onnx | 32 | 30 | 45 | 50 | 90.0 | 65.0 |" in text
    faster = model_card(replace(CARD, timings=ours[:1], teacher_timings=theirs))
    assert "In no measured format and batch size is it more than 10% slower than its teacher." in faster
    assert "Slower" not in faster


def test_other_thread_counts_are_not_compared():
    ours, theirs = timing("onnx", 1.5, 30.0), replace(timing("onnx", 1.0, 20.0), threads=1)
    text = model_card(replace(CARD, timings=(ours,), teacher_timings=(theirs,)))
    assert "The teacher was not measured" in text


@pytest.mark.parametrize(
    ("changes", "stated"),
    [
        (
            {"interval": None, "seeds": (1,)},
            "Only one seed has a test error (12.35 %), so the spread over seeds is unknown.",
        ),
        ({"error_mean_pct": None, "interval": None, "seeds": ()}, "* No seed has a test error,"),
        (
            {"counted": ("network-int8.onnx",)},
            "* The file that the budget limits, network-int8.onnx: 12.70 % of 1,000 test images",
        ),
        ({"warnings": ("2 of 3 seeds diverged.",)}, "* **2 of 3 seeds diverged.**"),
        ({"blocks": {"stage1.0": "S"}}, "199,532 parameters, with ordinary blocks; "),
        ({"data_sha256": {"a.npz": "e" * 64}}, f"* a.npz: `{'e' * 64}`"),
        ({"about": replace(CARD.about, resize_rule={})}, "Resizing of images: not recorded."),
        (
            {"about": replace(CARD.about, input_shape=(1, 8, 8), mean=(0.5,), std=(0.1,))},
            "`images`: grey float32 in [0, 1], (n, 1, 8, 8)",
        ),
    ],
)
def test_the_unusual(changes, stated):
    assert stated in model_card(replace(CARD, **changes))
