"""One small network exported once: every file against the network, its receipt, and what it says about itself."""

import json
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from moonshine.data.store import Split, load_dataset
from moonshine.export.receipts import Exported, write_receipts
from moonshine.export.timings import measure_file
from moonshine.export.writing import calibration_images, write_export, write_files
from moonshine.files import read_json, sha256
from moonshine.formats.about import About
from moonshine.formats.formats import FORMATS
from moonshine.formats.sizes import exported_bytes
from moonshine.preparation.prepare import prepare_dataset
from moonshine.structures.artifacts import load_weights
from moonshine.structures.build import build, from_structure, to_structure
from moonshine.structures.structure import Structure
from tests.moonshine import odd_pictures
from tests.moonshine.data.photographs import encoded, packed
from tests.moonshine.datasets import flowers
from tests.moonshine.images import images_of
from tests.workflow.quick_python import quick_python

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

WRITTEN = {
    name: format for name, format in FORMATS.items() if not format.missing
}  # without a set-up of their own
SHAPE = (3, 8, 8)
BLOCKS = {"stage1.0": "S", "stage2.0": "G(4)", "stage3.0": "BG(2,M)"}
ABOUT = About(
    input_shape=SHAPE,
    mean=(0.2, 0.5, 0.6),
    std=(0.2, 0.3, 0.25),
    class_names=("cat", "dog", "größer", "ship"),
    resize_rule={"resize": 10, "crop": [8, 8], "interpolation": "bilinear", "antialias": True},
    structure=to_structure("wrn-10-1", BLOCKS, num_classes=4),
)


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, *SHAPE), generator=generator).to(torch.uint8)
    return Split(images, torch.arange(count) % 4)


def trained():
    """A network whose batch norms and biases are those of a trained one: neither 0 nor 1."""
    torch.manual_seed(0)
    network = build("wrn-10-1", BLOCKS, num_classes=4)
    for tensor in network.state_dict().values():
        if tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    return network


def export(network, folder):
    return write_export(
        network,
        folder,
        ABOUT,
        train=split(80, 1),
        test=split(50, 2),
        calibration=40,
        tolerance=1e-4,
        also=["dc"],
    )


@pytest.fixture(scope="module")
def network():
    return trained()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shipped") / "network"


@pytest.fixture(scope="module")
def exported(network, folder) -> Exported:
    before = sys.stdout, sys.stderr
    found = export(network, folder)
    assert (sys.stdout, sys.stderr) == before
    return found


@pytest.fixture(scope="module")
def session(exported, folder):
    return onnxruntime.InferenceSession(folder / "network.onnx", providers=["CPUExecutionProvider"])


def logits_of(network, pixels):
    normalised = (pixels - torch.tensor(ABOUT.mean).view(3, 1, 1)) / torch.tensor(ABOUT.std).view(3, 1, 1)
    with torch.no_grad():
        return network.eval()(normalised).numpy()


def test_receipts_are_those_of_the_files(exported, folder, network):
    assert [receipt.format for receipt in exported.receipts] == list(WRITTEN)
    for receipt in exported.receipts:
        path = folder / receipt.file
        assert (receipt.bytes, receipt.sha256) == (path.stat().st_size, sha256(path))
        assert receipt.examples == exported.examples == 50
    test = split(50, 2)
    wrong = logits_of(network, test.images / 255).argmax(1) != test.labels.numpy()
    assert exported.error_pct == pytest.approx(100 * wrong.mean())
    floats = [receipt for receipt in exported.receipts if FORMATS[receipt.format].is_exact]
    (int8,) = [receipt for receipt in exported.receipts if receipt.format == "onnx-int8"]
    assert all(receipt.max_logit_difference < 1e-4 for receipt in floats)
    assert all(receipt.error_pct == exported.error_pct for receipt in floats)
    assert 1e-4 < int8.max_logit_difference < 1
    stored = read_json(folder / "receipts.json")
    assert [row["sha256"] for row in stored["receipts"]] == [each.sha256 for each in exported.receipts]


@pytest.mark.parametrize("batch", [1, 5])
def test_onnx_takes_raw_pixels_in_any_number(session, network, batch):
    pixels = torch.rand(batch, *SHAPE)
    (found,) = session.run(["logits"], {"images": pixels.numpy()})
    np.testing.assert_allclose(found, logits_of(network, pixels), atol=1e-4)


def test_onnx_says_what_it_is(session):
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(float)", ["n", *SHAPE])
    assert (logits.name, logits.shape) == ("logits", ["n", 4])
    stated = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert stated == ABOUT.values()
    assert stated["class_names"] == list(ABOUT.class_names)
    assert (stated["shorter_side"], stated["resize_rule"]) == (10, ABOUT.resize_rule)


@pytest.mark.parametrize("file", ["network.onnx", "network-int8.onnx"])
def test_onnx_is_of_the_oldest_format_that_has_its_operators(exported, folder, file):
    model = onnx.load(folder / file)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, [(each.domain, each.version) for each in model.opset_import]) == (8, [("", 18)])


def test_torch_export_runs_without_the_library_and_without_pickles(exported, folder, network):
    about = {"about.json": ""}
    program = torch.export.load(folder / "network.pt2", extra_files=about)
    assert json.loads(about["about.json"]) == ABOUT.values()
    pixels = torch.rand(3, *SHAPE)
    np.testing.assert_allclose(
        program.module()(pixels).detach().numpy(), logits_of(network, pixels), atol=1e-5
    )
    with zipfile.ZipFile(folder / "network.pt2") as archive:
        sizes = {each.filename: each.file_size for each in archive.infolist()}
        assert all(size == 0 for name, size in sizes.items() if name.endswith((".pt", ".pkl")))
        texts = [archive.read(name) for name in sizes if name.endswith("_config.json")]
    assert len(texts) == 2
    assert not any(b'"use_pickle": true' in text for text in texts)


def test_safetensors_are_rebuilt_from_the_structure_beside_them(exported, folder, network):
    structure = read_json(folder / "structure.json")
    again = from_structure(Structure.read(folder / "structure.json"))
    load_weights(again, folder / "network.safetensors")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert structure["blocks"] == BLOCKS
    assert structure["input"] == ABOUT.values()


def test_int8_is_static_per_channel_and_of_seven_bits(exported, folder):
    model = onnx.load(folder / "network-int8.onnx")
    onnx.checker.check_model(model, full_check=True)
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    weights = [array for array in arrays if array.dtype == np.int8 and array.ndim == 4]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(weights) == len(convolutions)
    assert max(abs(weight.astype(int)).max() for weight in weights) == 64
    scales = {array.shape for array in arrays if array.dtype == np.float32 and array.ndim == 1}
    assert {(weight.shape[0],) for weight in weights} <= scales
    assert not any("Dynamic" in node.op_type for node in model.graph.node)


def test_files_name_nothing_of_this_machine(exported, folder):
    for path in folder.iterdir():
        content = path.read_bytes()
        for trace in (
            b"site-packages",
            b'.py"',
            b"modules.py",
            str(Path(__file__).parents[3]).encode(),
            b"/tmp/",
        ):
            assert trace not in content, (path.name, trace)


def test_the_same_network_gives_the_same_bytes(exported, folder, tmp_path):
    network = trained().train()
    network.requires_grad_(True)
    again = tmp_path / "again"
    write_files(network, again, ABOUT, split(80, 1).images[:40], also=["dc"])
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    other = {path.name: sha256(path) for path in again.iterdir()}
    names = {path.name for path in folder.iterdir()} - {"receipts.json"}
    assert names == set(other)
    for name in names - {"network-int8.onnx"}:  # calibrated on other images
        assert sha256(folder / name) == other[name], name


@pytest.mark.parametrize("format", WRITTEN.values(), ids=WRITTEN)
def test_planned_bytes_are_those_of_the_trained_file(exported, folder, format):
    untrained = build("wrn-10-1", BLOCKS, num_classes=4)
    planned = exported_bytes(format.name, untrained, SHAPE, ABOUT)
    assert planned == (folder / format.file).stat().st_size
    assert all(
        not tensor.any() for name, tensor in untrained.state_dict().items() if name.endswith("norm.bias")
    )


def test_planned_bytes_of_a_network_without_weights(exported, folder):
    with torch.device("meta"):
        network = build("wrn-10-1", BLOCKS, num_classes=4)
    planned = exported_bytes("torch-export", network, SHAPE)
    assert planned == pytest.approx((folder / "network.pt2").stat().st_size, rel=0.01)
    assert exported_bytes("dc", network, SHAPE) == (folder / "network.dc").stat().st_size
    assert all(parameter.is_meta for parameter in network.parameters())


@pytest.mark.parametrize("format", WRITTEN.values(), ids=WRITTEN)
def test_latency_and_memory_in_a_process_of_its_own(exported, folder, format, untouched_home, monkeypatch):
    if format.name != "onnx":  # one process that starts from nothing will do
        monkeypatch.setattr(sys, "executable", quick_python())
    timing = measure_file(folder / format.file, SHAPE, threads=1, seconds=0.05)
    assert (timing.format, timing.file, timing.threads) == (format.name, format.file, 1)
    assert [row.batch for row in timing.batches] == [1, 32]
    for row in timing.batches:
        assert 0 < row.median_ms <= row.p95_ms
        assert 20e6 < timing.baseline_bytes <= row.peak_bytes < 2e9
        assert row.runs >= 20


def test_memory_is_the_files_own_not_that_of_whoever_measures_it(exported, folder):
    ballast = np.ones(1 << 26)  # 512 MiB, which the child would report as its own by getrusage
    timing = measure_file(folder / "network.onnx", SHAPE, batches=[1], seconds=0.01)
    assert timing.batches[0].peak_bytes < ballast.nbytes / 2  # and without torch, which alone is more


def test_the_example_classifies_a_picture(exported, folder, session, untouched_home, tmp_path):
    transforms = pytest.importorskip("torchvision.transforms")
    image = pytest.importorskip("PIL.Image")
    code = (folder / "classify.py").read_text().partition('"""\n')[2]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) == 18
    assert "moonshine" not in code
    pixels = np.random.default_rng(3).integers(0, 256, (13, 21, 3)).astype(np.uint8)
    image.fromarray(pixels).save(tmp_path / "picture.png")
    said = subprocess.run(
        [sys.executable, folder / "classify.py", folder / "network.onnx", tmp_path / "picture.png"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    ).stdout.split()
    rule = transforms.Compose([transforms.Resize(10), transforms.CenterCrop(8), transforms.ToTensor()])
    (logits,) = session.run(None, {"images": rule(image.fromarray(pixels))[None].numpy()})
    probabilities = torch.from_numpy(logits).softmax(1)[0]
    assert said == [ABOUT.class_names[int(probabilities.argmax())], f"{float(probabilities.max()):.1%}"]


def test_the_example_sees_the_pixels_that_training_saw(exported, folder, tmp_path):
    root = flowers.plant(tmp_path / "mine", {"train/rose": 2, "train/tulip": 2, "test/tulip": 1})
    paths = odd_pictures.plant(root / "test/rose")
    prepare_dataset(flowers.config_of(root, resize=10, crop=8), tmp_path / "data")
    images = images_of(load_dataset(tmp_path / "data").test)
    for path, expected in zip(paths, images, strict=False):  # the tulip is the last
        (found,) = odd_pictures.seen_by(folder / "classify.py", folder / "network.onnx", path)
        assert np.array_equal(found, expected.numpy()), path.name


def test_the_example_stretches_where_no_side_is_stated(exported, folder, tmp_path):
    image = pytest.importorskip("PIL.Image")
    rule = {"resize": None, "crop": None, "interpolation": None, "antialias": None}
    model = onnx.load(folder / "network.onnx")
    about = replace(ABOUT, resize_rule=rule)
    onnx.helper.set_model_props(model, about.texts())
    onnx.save(model, tmp_path / "network.onnx")
    pixels = np.random.default_rng(4).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image.fromarray(pixels).save(tmp_path / "picture.png")
    said = subprocess.run(
        [sys.executable, folder / "classify.py", tmp_path / "network.onnx", tmp_path / "picture.png"],
        capture_output=True,
        check=True,
    ).stdout.decode()
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (logits,) = session.run(None, {"images": pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255})
    assert said.startswith(ABOUT.class_names[logits.argmax()])


def test_pictures_that_are_decoded_as_they_are_needed_are_scored_alike(exported, folder, network):
    pngs = [
        packed([encoded(Image.fromarray(image.permute(1, 2, 0).numpy()), "PNG") for image in decoded], 8, 8)
        for decoded in (split(80, 1).images, split(50, 2).images)
    ]
    assert torch.equal(calibration_images(pngs[0], 40), calibration_images(split(80, 1), 40))
    test = replace(pngs[1], labels=split(50, 2).labels)
    handlers = set()
    for _ in range(2):
        found = write_receipts(network.eval(), folder, ABOUT, test, ["onnx"], threads=1)
        handlers.add(signal.getsignal(signal.SIGCHLD))
    assert len(handlers) == 1
    onnx_receipt = next(receipt for receipt in exported.receipts if receipt.format == "onnx")
    assert found.receipts == (onnx_receipt,)
    assert found.error_pct == exported.error_pct
