"""A network that labels every pixel, exported: scored by mIoU, with an example that labels a picture."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from moonshine import MoonshineError
from moonshine.config.training import Runtime
from moonshine.data.store import VOID, Dataset, Split, load_dataset
from moonshine.export.receipts import Exported, Receipt, verify, write_receipts
from moonshine.export.timings import measure_file
from moonshine.export.writing import write_export, write_files
from moonshine.files import read_json
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS
from moonshine.formats.sizes import exported_bytes
from moonshine.preparation.prepare import prepare_dataset
from moonshine.structures.build import from_structure
from moonshine.structures.describe import describe_model
from moonshine.training.evaluation import evaluate
from moonshine.training.execution import resolve
from tests.messages import naming
from tests.moonshine import odd_pictures
from tests.moonshine.datasets import scenes
from tests.moonshine.images import images_of

onnxruntime = pytest.importorskip("onnxruntime")

WRITTEN = {name: format for name, format in FORMATS.items() if not format.missing}
SHAPE = (3, 12, 20)
PLAIN = Runtime(threads=1, device="cpu", channels_last=False, compile=False)
NAMES = ("sky", "road", "tree", "car", "nothing")
SCORED = 4
STRUCTURE = describe_model("tests.moonshine.odd_networks:Dense", {}, len(NAMES), SHAPE, dense=True)[0]
STRUCTURE = STRUCTURE.with_blocks({"block": "G(4)"})
ABOUT = About(SHAPE, (0.4, 0.5, 0.6), (0.3, 0.2, 0.2), NAMES, {"resize": [12, 20]}, STRUCTURE, SCORED)


def pictures(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, *SHAPE), generator=generator).to(torch.uint8)
    labels = torch.randint(SCORED, (count, *SHAPE[1:]), generator=generator).to(torch.uint8)
    labels[:, :3] = VOID
    return Split(images, labels)


TRAIN, TEST = pictures(6, 1), pictures(7, 2)
DATA = Dataset("scenes", TRAIN, None, TEST, ABOUT.mean, ABOUT.std, len(NAMES), NAMES, scored_classes=SCORED)


@pytest.fixture(scope="module")
def network():
    """Batch norms and biases are those of a trained network: neither 0 nor 1."""
    torch.manual_seed(0)
    network = from_structure(STRUCTURE, trust="tests").eval()
    for tensor in network.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shipped") / "network"


@pytest.fixture(scope="module")
def exported(network, folder) -> Exported:
    return write_export(
        network, folder, ABOUT, train=TRAIN, test=TEST, calibration=6, tolerance=1e-4, also=["dc"]
    )


def test_every_file_is_scored_as_networks_are_in_evaluation(exported, folder, network):
    scored = evaluate(network, TEST, DATA, resolve(PLAIN, "fp32"))
    assert exported.error_pct == pytest.approx(scored["error_pct"], abs=1e-9)
    assert 0 < exported.error_pct < 100
    assert [receipt.format for receipt in exported.receipts] == list(WRITTEN)
    exact, (int8,) = (
        [each for each in exported.receipts if FORMATS[each.format].is_exact is wanted]
        for wanted in (True, False)
    )
    for receipt in exact:
        assert receipt.max_logit_difference < 1e-4
        assert receipt.error_pct == pytest.approx(exported.error_pct, abs=0.1)
    assert 1e-4 < int8.max_logit_difference < 1
    assert exported.examples == 7
    assert read_json(folder / "receipts.json")["error_pct"] == exported.error_pct


def test_scores_add_up_over_batches(network, folder, exported, monkeypatch, tmp_path):
    monkeypatch.setattr("moonshine.export.receipts._BATCH", 2)
    again = write_export(
        network,
        tmp_path / "again",
        ABOUT,
        train=TRAIN,
        test=TEST,
        calibration=6,
        tolerance=1e-4,
        formats=["safetensors"],
    )
    assert again.error_pct == pytest.approx(exported.error_pct, abs=1e-9)


def test_pixels_are_counted_exactly(network, monkeypatch, tmp_path):
    many = torch.tensor([[10**8 + 1], [2 * 10**8 + 3]])
    monkeypatch.setattr("moonshine.export.receipts.counts_of", lambda *given: many)
    monkeypatch.setattr("moonshine.export.receipts._BATCH", 2)
    write_files(network, tmp_path, ABOUT, TRAIN.images, ["safetensors"])
    found = write_receipts(network, tmp_path, ABOUT, TEST, ["safetensors"], threads=1)
    assert found.error_pct == pytest.approx(100 - 100 * (10**8 + 1) / (2 * 10**8 + 3), abs=1e-9)


def test_the_file_says_what_it_returns(exported, folder):
    session = onnxruntime.InferenceSession(folder / "network.onnx")
    (logits,) = session.get_outputs()
    assert logits.shape == ["n", 5, 12, 20]
    stated = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert stated == ABOUT.values()
    assert stated["scored_classes"] == SCORED
    assert "scored_classes" not in replace(ABOUT, scored_classes=None).values()


@pytest.mark.parametrize("format", WRITTEN.values(), ids=WRITTEN)
def test_planned_bytes_are_those_of_the_trained_file(exported, folder, format):
    planned = exported_bytes(format.name, from_structure(STRUCTURE, trust="tests"), SHAPE, ABOUT)
    assert planned == (folder / format.file).stat().st_size


def test_planned_bytes_without_a_dataset(exported, folder):
    planned = exported_bytes("onnx", from_structure(STRUCTURE, trust="tests"), SHAPE)
    assert planned == pytest.approx((folder / "network.onnx").stat().st_size, rel=0.02)


def test_the_example_labels_a_picture(exported, folder, untouched_home, tmp_path):
    assert not (folder / "classify.py").exists()
    code = (folder / "segment.py").read_text().partition('"""\n')[2]
    assert "moonshine" not in code
    pixels = np.random.default_rng(3).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    said = subprocess.run(
        [
            sys.executable,
            folder / "segment.py",
            folder / "network.onnx",
            tmp_path / "picture.png",
            tmp_path / "labels.png",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    resized = Image.fromarray(pixels).resize((20, 12), Image.Resampling.BILINEAR)
    images = np.asarray(resized, np.float32).transpose(2, 0, 1)[None] / 255
    (logits,) = onnxruntime.InferenceSession(folder / "network.onnx").run(None, {"images": images})
    labels = logits[0, :SCORED].argmax(0)
    drawn = np.asarray(Image.open(tmp_path / "labels.png"))
    assert drawn.shape == (24, 40)
    assert np.array_equal(drawn, labels.repeat(2, 0).repeat(2, 1))
    assert said == [f"{label} {NAMES[label]}: {(labels == label).mean():.1%}" for label in range(SCORED)]


def test_the_example_sees_the_pixels_that_training_saw(exported, folder, tmp_path):
    root = scenes.plant(tmp_path / "mine", {"train": 2, "test": 0})
    (root / "images/test").rmdir()
    paths = odd_pictures.plant(root / "images/test")
    for path in paths:
        upright = (31, 20) if path.stem.startswith("turned") else (20, 31)
        Image.fromarray(np.zeros(upright, np.uint8)).save(root / f"labels/test/{path.stem}.png")
    prepare_dataset(scenes.config_of(root, size=[12, 20]), tmp_path / "data")
    images = images_of(load_dataset(tmp_path / "data").test)
    for path, expected in zip(paths, images, strict=True):
        (found,) = odd_pictures.seen_by(
            folder / "segment.py", folder / "network.onnx", path, tmp_path / "labels.png"
        )
        assert np.array_equal(found, expected.numpy()), path.name


def test_the_example_says_how_it_is_called(exported, folder):
    done = subprocess.run(
        [sys.executable, folder / "segment.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "segment.py network.onnx image.jpg labels.png" in done.stderr


def test_latency_of_one_picture(exported, folder):
    timing = measure_file(folder / "network.onnx", SHAPE, batches=[1], seconds=0.01)
    assert [row.batch for row in timing.batches] == [1]


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            replace(ABOUT, scored_classes=None),
            ["(2, 5, 12, 20)", "logits (2, 5)"],
        ),
        (
            replace(ABOUT, class_names=NAMES[:4]),
            ["(2, 5, 12, 20)", "logits (2, 4, 12, 20)"],
        ),
        (replace(ABOUT, scored_classes=6), ["scored_classes", "6", "1", "5", "None"]),
        (replace(ABOUT, scored_classes=0), ["scored_classes", "0", "1", "5", "None"]),
        (replace(ABOUT, scored_classes=True), ["scored_classes", "True", "1", "5", "None"]),
    ],
)
def test_what_does_not_belong_together_is_told_before_any_work(network, about, message, tmp_path):
    with pytest.raises(MoonshineError, match=naming(*message)):
        write_export(network, tmp_path / "out", about, train=TRAIN, test=TEST, calibration=6, tolerance=1e-4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            Split(TEST.images, torch.zeros(7, dtype=torch.int64)),
            ["test", "label per image", "label per pixel", "scored_classes", "4"],
        ),
        (
            Split(TEST.images, torch.full_like(TEST.labels, VOID)),
            ["test", "no pixel", "4", "at least one"],
        ),
        (Split(TEST.images, torch.full_like(TEST.labels, SCORED)), ["test", "no pixel", "4"]),
    ],
)
def test_labels_of_another_kind_are_told_before_any_work(network, test, message, tmp_path):
    with pytest.raises(MoonshineError, match=naming(*message)):
        write_export(network, tmp_path / "out", ABOUT, train=TRAIN, test=test, calibration=6, tolerance=1e-4)
    assert list(tmp_path.iterdir()) == []


def test_of_label_maps_the_logits_decide():
    def found(difference):
        return Exported(10.0, 900, (Receipt("onnx", "network.onnx", 1, "0" * 64, difference, 15.0, 900),))

    with pytest.raises(MoonshineError, match=r"^network.onnx: its test error"):
        verify(found(1e-6), 1e-3, dense=False)
    verify(found(1e-6), 1e-3, dense=True)
    for difference in (1e-2, float("nan")):
        with pytest.raises(MoonshineError, match=r"^network.onnx: its logits differ"):
            verify(found(difference), 1e-3, dense=True)
