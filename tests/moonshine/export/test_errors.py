"""What cannot be exported: one message each, and nothing left behind."""

import importlib.util
import os
import signal
from dataclasses import replace

import pytest
import torch
from torch import nn

from moonshine import MoonshineError
from moonshine.data.store import Split
from moonshine.export.folders import replace_folder
from moonshine.export.receipts import Exported, Receipt, verify, write_receipts
from moonshine.export.timings import measure_file
from moonshine.export.writing import write_export, write_files
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS
from moonshine.formats.safetensors import SAFETENSORS
from moonshine.structures.build import build, to_structure
from tests.messages import naming

SHAPE = (3, 8, 8)
STRUCTURE = to_structure("wrn-10-1", num_classes=4)
ABOUT = About(SHAPE, (0.5,) * 3, (0.2,) * 3, ("a", "b", "c", "d"), {}, STRUCTURE)
IMAGES = torch.arange(20 * 192).remainder(256).to(torch.uint8).view(20, *SHAPE)
IMAGES[:, :, 3] += torch.arange(20, dtype=torch.uint8).view(20, 1, 1)
DATA = Split(IMAGES, torch.arange(20) % 4)


class Head(nn.Module):
    """A linear classifier of mean colours with a function at its end."""

    def __init__(self, function=lambda x: x, classes=4):
        super().__init__()
        self.linear = nn.Linear(3, classes)
        self.function = function

    def forward(self, x):
        return self.function(self.linear(x.mean((2, 3))))


def ship(network, folder, about=ABOUT, **changes):
    settings = {
        "train": DATA,
        "test": DATA,
        "calibration": 4,
        "tolerance": 1e-3,
        "formats": ["onnx"],
        **changes,
    }
    return write_export(network, folder, about, **settings)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            torch.special.bessel_j0,
            ["onnx", "bessel_j0"],
        ),
        (
            lambda x: x if x.sum() > 0 else -x,
            ["torch-export", "data-dependent"],
        ),
        (lambda x: x.view(2, 4), ["torch-export", "any batch size"]),
    ],
    ids=["no such operator", "branch on data", "one batch size"],
)
def test_a_network_that_cannot_be_exported(function, message, tmp_path, capfd):
    pytest.importorskip("onnxscript")
    with pytest.raises(MoonshineError, match=naming(*message)):
        ship(Head(function), tmp_path / "out", formats=["torch-export", "onnx"])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("network", "about", "changes", "message"),
    [
        (Head(lambda x: {"out": x}), ABOUT, {}, ["dict", "logits (2, 4)"]),
        (Head(classes=5), ABOUT, {}, ["(2, 5)", "logits (2, 4)"]),
        (Head(), replace(ABOUT, input_shape=(5, 8, 8)), {}, ["mean", "5 channels"]),
        (nn.Linear(7, 4), ABOUT, {}, ["3x8x8"]),
        (Head(), replace(ABOUT, std=(0.1, 0.0, 0.1)), {}, ["std", "0"]),
        (Head(), replace(ABOUT, input_shape=(3, 8, 0)), {}, ["input_shape"]),
        (Head(), replace(ABOUT, class_names=("a",)), {}, ["class_names"]),
        (
            Head(),
            replace(ABOUT, resize_rule={"a": {1}}),
            {},
            ["resize_rule", "JSON"],
        ),
        (
            Head(),
            ABOUT,
            {"formats": ["tflite"]},
            ["formats", "tflite", "safetensors", "torch-export", "onnx"],
        ),
        (Head(), ABOUT, {"formats": []}, ["formats", "none"]),
        (
            Head(),
            replace(ABOUT, structure=None),
            {"formats": ["safetensors"]},
            ["about.structure", "none"],
        ),
        (
            Head(),
            ABOUT,
            {"formats": ["safetensors", "onnx"]},
            ["structure", "missing stem.weight"],
        ),
        (Head(), ABOUT, {"calibration": 0}, ["calibration_images", "0", "1"]),
        (Head(), ABOUT, {"test": Split(IMAGES[:0], DATA.labels[:0])}, ["test", "no images"]),
        (
            Head(),
            ABOUT,
            {"test": Split(IMAGES, torch.zeros(20, 8, 8, dtype=torch.uint8))},
            ["test", "label per pixel", "scored_classes", "None"],
        ),
    ],
)
def test_bad_input_is_told_before_any_work(network, about, changes, message, tmp_path):
    with pytest.raises(MoonshineError, match=naming(*message)):
        ship(network, tmp_path / "out", about, **changes)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "moonshine.formats.formats.find_spec", lambda name: None if name == "onnxscript" else found(name)
    )
    with pytest.raises(MoonshineError, match=naming("onnxscript", "moonshine-distil[export]")):
        ship(Head(), tmp_path / "out")
    ship(build("wrn-10-1", num_classes=4), tmp_path / "out", formats=["safetensors"])


def test_a_failed_check_keeps_the_older_export(tmp_path):
    network = build("wrn-10-1", num_classes=4)
    ship(network, tmp_path / "out", formats=["safetensors"])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    other = build("wrn-10-1", num_classes=4)
    with pytest.raises(MoonshineError, match=r"^network.safetensors: its logits differ [^;]*; allowed: -1$"):
        ship(other, tmp_path / "out", formats=["safetensors"], tolerance=-1)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    ship(other, tmp_path / "out", formats=["safetensors"])
    assert before["network.safetensors"] != (tmp_path / "out" / "network.safetensors").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_with_another_normalisation_is_caught(tmp_path):
    network = build("wrn-10-1", num_classes=4).eval()
    write_files(network, tmp_path, replace(ABOUT, mean=(0.1, 0.5, 0.5)), IMAGES, ["safetensors"])
    exported = write_receipts(network, tmp_path, ABOUT, DATA, ["safetensors"], threads=1)
    with pytest.raises(MoonshineError, match=r"its logits differ from the network's by \d"):
        verify(exported, 1e-3)


def test_what_says_already_what_is_wrong_is_not_blamed_on_the_file(tmp_path, monkeypatch):
    def die(path, threads, trust):
        raise MoonshineError("a process that decodes pictures died")

    monkeypatch.setitem(FORMATS, "safetensors", replace(SAFETENSORS, open=die))
    with pytest.raises(MoonshineError, match=r"^a process that decodes pictures died$"):
        write_receipts(Head(), tmp_path, ABOUT, DATA, ["safetensors"], threads=1)


def exported(error, examples, difference=0.0, format="onnx", reference=10.0):
    receipt = Receipt(format, "network.onnx", 1, "0" * 64, difference, error, examples)
    return Exported(reference, examples, (receipt,))


@pytest.mark.parametrize(
    ("found", "passes"),
    [
        (exported(10.1, 10_000), True),
        (exported(9.9, 10_000), True),
        (exported(10.11, 10_000), False),
        (exported(9.89, 10_000), False),
        (exported(11.0, 100), True),  # one image
        (exported(12.0, 100), False),
        (exported(10.0, 100, 1e-3), True),
        (exported(10.0, 100, 1.1e-3), False),
        (exported(10.0, 100, float("nan")), False),
        (exported(float("nan"), 100), False),
        (exported(90.0, 100, 50.0, "onnx-int8"), True),
    ],
)
def test_what_a_float_file_may_differ_by(found, passes):
    if passes:
        verify(found, 1e-3)
    else:
        with pytest.raises(MoonshineError, match=r"^network.onnx: its (logits|test error)"):
            verify(found, 1e-3)


def test_somebodys_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(MoonshineError, match=naming("thesis.tex")):
        ship(Head(), tmp_path)
    with pytest.raises(MoonshineError, match="is not a folder"):
        ship(Head(), tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_appears_when_it_is_whole(tmp_path):
    place = tmp_path / "deep" / "out"
    with pytest.raises(ZeroDivisionError), replace_folder(place) as draft:
        (draft / "network.onnx").write_text(f"half {1 / 0}")
    assert list(place.parent.iterdir()) == []
    for text in ("first", "second"):
        with replace_folder(place) as draft:
            (draft / "README.md").write_text(text)
            assert not (draft / "network.onnx").exists()
        assert (place / "README.md").read_text() == text
    assert list(place.parent.iterdir()) == [place]


def test_what_a_killed_export_leaves_goes_with_the_next(tmp_path):
    place = tmp_path / "out"
    if not (child := os.fork()):
        with replace_folder(place) as draft:
            (draft / "network.onnx").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not place.exists()
    with replace_folder(place) as draft:
        (draft / "README.md").write_text("whole")
    assert list(tmp_path.iterdir()) == [place]


def test_a_file_that_cannot_be_measured(tmp_path):
    with pytest.raises(MoonshineError, match=naming("network.onnx", "network.pt2")):
        measure_file(tmp_path / "network.onnx", SHAPE)
    (tmp_path / "network.onnx").write_bytes(b"no graph")
    with pytest.raises(MoonshineError, match=r"network.onnx: cannot be measured: [^\n]+$"):
        measure_file(tmp_path / "network.onnx", SHAPE)
