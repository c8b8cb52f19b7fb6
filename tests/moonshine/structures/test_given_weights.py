"""Weights that somebody else saved: every form that is understood, and every other refused without running it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine.structures.given_weights import load_given_weights, load_published_weights
from tests.messages import naming


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def trained() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        name: torch.rand_like(tensor.float()).to(tensor.dtype)
        for name, tensor in network().state_dict().items()
    }


def load(path: Path, prefix: str | None = None) -> dict[str, Tensor]:
    module = network()
    load_given_weights(module, path, sha256(path), prefix)
    return module.state_dict()


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


FORMS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda tensors: tensors,
    "nested": lambda tensors: {"state_dict": tensors, "epoch": 3},
    "parallel": lambda tensors: {f"module.{name}": tensor for name, tensor in tensors.items()},
    "nested and parallel": lambda tensors: {"state_dict": {f"module.{k}": v for k, v in tensors.items()}},
    "compiled": lambda tensors: under("_orig_mod.", tensors),
    "of Lightning, with a loss": lambda tensors: {
        "state_dict": {**under("model._orig_mod.", tensors), "loss.weight": torch.ones(5)},
        "hyper_parameters": {"lr": 0.1},
    },
    "an average": lambda tensors: under("ema.module.", tensors),
    "under model": lambda tensors: {"model": tensors, "optimizer": {"state": {0: {"step": torch.ones(())}}}},
    "under net": lambda tensors: {"net": under("module.", tensors), "acc": 93.1, "epoch": 3},
    "before torch counted steps": lambda tensors: {
        k: v for k, v in tensors.items() if "num_batches" not in k
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_in_any_usual_form_is_loaded(form: str, tmp_path: Path) -> None:
    torch.save(FORMS[form](trained()), tmp_path / "w.pt")
    found = load(tmp_path / "w.pt")
    assert all(torch.equal(found[k], v) for k, v in trained().items() if "num_batches" not in k)


def test_safetensors_are_loaded(tmp_path: Path) -> None:
    save_file(trained(), tmp_path / "w.safetensors")
    assert torch.equal(load(tmp_path / "w.safetensors")["0.weight"], trained()["0.weight"])


WRONG: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda t: {k: v for k, v in t.items() if k != "0.bias"}, "missing 0.bias"),
    "unexpected": (lambda t: {**t, "head.weight": torch.ones(2)}, "unexpected head.weight"),
    "shape": (lambda t: {**t, "0.bias": torch.ones(5)}, r"0.bias is \(5,\), the network has \(4,\)"),
    "a module": (lambda t: network(), r"cannot be read as weights alone \([^.]*\); allowed: \.safetensors"),
    "a list": (lambda t: [1, 2], "holds a list"),
    "no tensors": (lambda t: {"epoch": 3, "name": "x"}, "holds a dict of int, str"),
    "another prefix": (
        lambda t: {"model": under("backbone.stem.", t)},
        r"0\.bias as model\.backbone\.stem\.0\.bias; allowed: .* teacher.weights_prefix: model\.backbone\.stem\.$",
    ),
    "twice": (
        lambda t: {"model": t, "ema": under("module.", t)},
        r"holds this network 2 times; allowed: teacher\.weights_prefix, one of model\., ema\.module\.$",
    ),
    "another network": (
        lambda t: under("module.", {f"layer{k}": v for k, v in t.items()}),
        "missing 0.weight; missing 0.bias; missing 1.weight and .* more; unexpected layer0.weight",
    ),
    "half parallel": (
        lambda t: {f"module.{k}" if k[0] == "0" else k: v for k, v in t.items()},
        "missing 0.weight",
    ),
}


@pytest.mark.parametrize("name", ["0.weight", "1.running_var"])
def test_weights_that_are_no_numbers_are_refused(name: str, tmp_path: Path) -> None:
    tensors = trained()
    tensors[name].view(-1)[1] = float("nan")
    torch.save(tensors, tmp_path / "w.pt")
    with pytest.raises(MoonshineError, match=naming(name, "not finite")):
        load(tmp_path / "w.pt")


@pytest.mark.parametrize("case", WRONG)
def test_anything_else_is_one_message(case: str, tmp_path: Path) -> None:
    make, message = WRONG[case]
    torch.save(make(trained()), tmp_path / "w.pt")
    with pytest.raises(MoonshineError, match=message):
        load(tmp_path / "w.pt")


def test_a_prefix_says_which_of_several_it_is(tmp_path: Path) -> None:
    other = {name: tensor + 1 for name, tensor in trained().items()}
    torch.save(
        {"model": trained(), "ema": under("module.", other), "n": under("a.", other)}, tmp_path / "w.pt"
    )
    for prefix, expected in (("model.", trained()), ("ema.module.", other), ("n.a.", other)):
        assert torch.equal(load(tmp_path / "w.pt", prefix)["0.weight"], expected["0.weight"])
    with pytest.raises(MoonshineError, match=naming("weights_prefix", "net.", "ema, model, n")):
        load(tmp_path / "w.pt", "net.")
    with pytest.raises(MoonshineError, match=naming("missing", "0.weight")):
        load(tmp_path / "w.pt", "ema.")


def classifier(classes: int, width: int = 4) -> nn.Module:
    torch.manual_seed(classes)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.Linear(width, classes)
    )


HEADS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "another number of classes": lambda tensors: tensors,
    "under a key": lambda tensors: {"model": under("module.", tensors), "optimizer": {}},
    "no head": lambda tensors: {name: tensor for name, tensor in tensors.items() if name[0] != "3"},
}


@pytest.mark.parametrize("form", HEADS)
def test_a_new_head_stays_as_drawn_and_the_rest_is_loaded(form: str, tmp_path: Path) -> None:
    file, given = tmp_path / "w.pt", classifier(7).state_dict()
    torch.save(HEADS[form](given), file)
    module = classifier(5)
    drawn = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    start = load_given_weights(module, file, sha256(file), new_head=5)
    assert (start.weights, start.sha256, start.loaded) == ("w.pt", sha256(file), 6)
    assert start.drawn == ("3.weight", "3.bias")
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, drawn[name] if name in start.drawn else given[name])


def test_weights_that_fit_neither_with_the_head_nor_without(tmp_path: Path) -> None:
    for name, other in (("wide", classifier(7, width=6)), ("same", classifier(5))):
        file = tmp_path / f"{name}.pt"
        torch.save(other.state_dict(), file)
        said = ["another architecture", "0.weight"] if name == "wide" else ["teacher.head", "replace", 5]
        with pytest.raises(MoonshineError, match=naming(file, *said)):
            load_given_weights(classifier(5), file, sha256(file), new_head=5)


def test_weights_that_would_fit_with_a_new_head_are_refused_with_that_advice(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save(classifier(7).state_dict(), file)
    with pytest.raises(
        MoonshineError, match=naming("3.weight", (7, 4), (5, 4), "teacher.head: replace", "finetune")
    ):
        load_given_weights(classifier(5), file, sha256(file))


def test_what_was_taken_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save({"net": under("module.", trained())}, tmp_path / "w.pt")
    with caplog.at_level("INFO", "moonshine"):
        load(tmp_path / "w.pt")
    assert caplog.messages == [
        f"of {tmp_path / 'w.pt'} the tensors whose key and name begin with net.module."
    ]


def test_a_network_with_a_wrappers_name_keeps_it(tmp_path: Path) -> None:
    wrapped = nn.ModuleDict({"model": network()})
    torch.save(under("model.", trained()), tmp_path / "w.pt")
    load_given_weights(wrapped, tmp_path / "w.pt", sha256(tmp_path / "w.pt"))
    assert torch.equal(wrapped.state_dict()["model.0.weight"], trained()["0.weight"])


def test_torchscript_is_refused_without_advice_to_run_it(tmp_path: Path) -> None:
    torch.jit.trace(network(), torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "w.pt"))
    with pytest.raises(MoonshineError, match=naming("TorchScript")) as error:
        load(tmp_path / "w.pt")
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02}q\x00h\x05.", b"\x80\x02.", b"\x80\x02Q.", b"", b"PK\x03\x04", b"\x80\x02K\x01K\x02s."],
)
def test_whatever_torch_stumbles_over_is_one_message(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(MoonshineError, match=r"w\.pt cannot be read as weights alone \([^()]+"):
        load(tmp_path / "w.pt")


def test_nothing_in_the_file_is_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "w.pt").write_bytes(pickle.dumps({"state_dict": Bomb()}))
    with pytest.raises(MoonshineError, match=naming("weights alone")):
        load(tmp_path / "w.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "w.pt")
    (tmp_path / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:100])
    with pytest.raises(MoonshineError, match=naming("w.pt", "cannot be read")):
        load(tmp_path / "w.pt")


def test_another_file_than_the_study_says_is_refused_with_its_checksum(tmp_path: Path) -> None:
    torch.save(trained(), tmp_path / "w.pt")
    with pytest.raises(MoonshineError, match=naming("weights_sha256", sha256(tmp_path / "w.pt"))):
        load_given_weights(network(), tmp_path / "w.pt", "0" * 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MoonshineError, match=naming("teacher.weights", "none.pt", "no file")):
        load_given_weights(network(), tmp_path / "none.pt", "0" * 64)


@dataclass
class Hub:
    """torchvision's list of one model's weights, at an address that is a file, and a cache of its own."""

    origin: Path
    cache: Path
    DEFAULT: Any = None

    def __iter__(self) -> Iterator[Any]:
        return iter([self.DEFAULT] if self.DEFAULT else [])


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    torch.save(trained(), tmp_path / "w.pt")
    origin = tmp_path / f"tiny-{sha256(tmp_path / 'w.pt')[:8]}.pth"
    (tmp_path / "w.pt").rename(origin)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    hub = Hub(origin, tmp_path / "home" / "hub" / "checkpoints" / origin.name)
    hub.DEFAULT = SimpleNamespace(url=origin.as_uri())
    monkeypatch.setattr("torchvision.models.get_model_weights", {"tiny": hub}.__getitem__)
    return hub


def test_published_weights_are_downloaded_once(hub: Hub) -> None:
    for _ in range(2):
        module = network()
        load_published_weights(module, "torchvision/tiny")
        assert torch.equal(module.state_dict()["0.weight"], trained()["0.weight"])
        hub.origin.unlink(missing_ok=True)
    assert hub.cache.is_file()


def test_without_a_network_the_error_says_where_the_file_belongs(hub: Hub) -> None:
    hub.origin.rename(hub.origin.with_name("elsewhere"))
    with pytest.raises(MoonshineError, match=naming("teacher.weights", "could not be downloaded")) as error:
        load_published_weights(network(), "torchvision/tiny")
    assert str(error.value).endswith(f"allowed: put that file at {hub.cache}")
    assert not hub.cache.exists()
    hub.cache.write_bytes(hub.origin.with_name("elsewhere").read_bytes())
    load_published_weights(network(), "torchvision/tiny")


def test_a_damaged_download_is_not_kept(hub: Hub) -> None:
    hub.origin.write_bytes(b"<html>404</html>")
    with pytest.raises(MoonshineError, match="could not be downloaded"):
        load_published_weights(network(), "torchvision/tiny")
    assert not hub.cache.exists()


def test_a_damaged_file_in_the_cache_is_named(hub: Hub) -> None:
    load_published_weights(network(), "torchvision/tiny")
    hub.cache.write_bytes(hub.cache.read_bytes()[:-1])
    with pytest.raises(MoonshineError, match=naming(hub.cache.name, "damaged")):
        load_published_weights(network(), "torchvision/tiny")


def test_published_weights_of_other_classes_are_refused(hub: Hub) -> None:
    with pytest.raises(MoonshineError, match=naming("another architecture")):
        load_published_weights(nn.Linear(2, 2), "torchvision/tiny")


def test_a_model_of_which_torchvision_publishes_none(hub: Hub) -> None:
    hub.DEFAULT = None
    with pytest.raises(MoonshineError, match=naming("torchvision/tiny")):
        load_published_weights(network(), "torchvision/tiny")


def test_the_weights_of_resnet34_are_those_of_its_published_error() -> None:
    from torchvision.models import get_model_weights

    weights = get_model_weights("resnet34")
    assert weights.DEFAULT is weights.IMAGENET1K_V1
