"""Which of the user's modules belong to a builder, and that a network is not built when one has changed since."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moonshine.errors import MoonshineError
from moonshine.files import sha256
from moonshine.networks.sources import check_sources, sources
from moonshine.structures.build import from_structure
from moonshine.structures.structure import Structure

Write = Callable[[dict[str, str]], None]
NETS = "from torch import nn\nfrom own_pkg.blocks import width\n\ndef build():\n    return nn.Conv2d(3, width, 3)\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes files below the directory where the command is given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])

    def make(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    yield make
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


IMPORTS = {
    "its own module alone": ("import torch, json, numpy as np, moonshine", set()),
    "one beside it": ("import own_other", {"own_other"}),
    "of its package": ("from own_pkg import blocks", {"own_pkg.blocks"}),
    "a name in a module": ("from own_pkg.blocks import width", {"own_pkg.blocks"}),
    "relative": ("from . import blocks", {"own_pkg.blocks"}),
    "relative, further up": ("from ..own_pkg.deep.inner import x", set()),
    "a module of a module": ("from .deep import inner", {"own_pkg.deep", "own_pkg.deep.inner", "own_other"}),
    "everything": ("from .deep import *", {"own_pkg.deep", "own_pkg.deep.inner", "own_other"}),
    "in a function": ("def build():\n    import own_other", {"own_other"}),
    "in a try": ("try:\n    import own_absent\nexcept ImportError:\n    import own_other", {"own_other"}),
    "by a name as text": (
        "import importlib\nimportlib.import_module('.blocks', __package__)",
        {"own_pkg.blocks"},
    ),
    "by a computed name": (
        "from importlib import import_module as load\nimport importlib\n"
        "def build(name): return importlib.import_module(f'own_pkg.{name}')",
        {"own_pkg.blocks", "own_pkg.deep", "own_pkg.deep.inner", "own_other"},
    ),
    "from its own folder": (
        "import sys, os\nsys.path.append(os.path.dirname(__file__))\nimport blocks",
        {"blocks"},
    ),
    "a folder without __init__": ("import own_space.part", {"own_space.part"}),
    "round in a circle": ("import own_circle", {"own_circle"}),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_what_a_builder_imports_belongs_to_it(case: str, write: Write, tmp_path: Path) -> None:
    text, more = IMPORTS[case]
    write(
        {
            "own_pkg/__init__.py": "",
            "own_pkg/nets.py": text,
            "own_pkg/blocks.py": "width = 4",
            "own_pkg/deep/__init__.py": "",
            "own_pkg/deep/inner.py": "import own_other",
            "own_other.py": "",
            "own_unused.py": "",
            "own_space/part.py": "",
            "own_circle.py": "import own_pkg.nets",
        }
    )
    found = sources("own_pkg.nets:build")
    assert found.keys() == {"own_pkg", "own_pkg.nets"} | more
    assert found["own_pkg.nets"] == sha256(tmp_path / "own_pkg/nets.py")
    assert not any(name.startswith("own_") for name in sys.modules)


def test_libraries_and_built_in_networks_have_versions_instead() -> None:
    assert sources("torchvision/resnet18") == sources("timm/resnet18") == sources("wrn-10-1") == {}


def test_a_module_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        MoonshineError, match=f"model own_none.nets:build: no module own_none.nets .* {tmp_path}"
    ):
        sources("own_none.nets:build")


@pytest.mark.parametrize("file", ["own_pkg/nets.py", "own_pkg/blocks.py", "own_pkg/__init__.py"])
def test_a_change_in_any_of_them_is_refused_with_both_checksums(
    file: str, write: Write, tmp_path: Path
) -> None:
    write({"own_pkg/__init__.py": "", "own_pkg/nets.py": NETS, "own_pkg/blocks.py": "width = 4\n"})
    recorded = sources("own_pkg.nets:build")
    structure = Structure(
        network="own_pkg.nets:build", num_classes=4, in_channels=3, blocks={}, source_sha256=recorded
    )
    from_structure(structure, "own_pkg")
    path = tmp_path / file
    before, then = path.read_text(), sha256(path)
    path.write_text(before + "# another\n")
    with pytest.raises(MoonshineError, match=f"{path} has the checksum {sha256(path)}, then it was {then}"):
        from_structure(structure, "own_pkg")
    path.write_text(before)
    from_structure(structure, "own_pkg")


def test_a_module_that_has_come_or_gone_is_a_change(write: Write, tmp_path: Path) -> None:
    write({"own_nets.py": "import own_blocks", "own_blocks.py": ""})
    recorded = sources("own_nets:build")
    (tmp_path / "own_blocks.py").unlink()
    with pytest.raises(MoonshineError, match="own_blocks has the checksum None, then it was e3b0"):
        check_sources("own_nets:build", recorded)
    write({"own_blocks.py": "import own_more", "own_more.py": ""})
    with pytest.raises(MoonshineError, match=r"own_blocks\.py has the checksum"):
        check_sources("own_nets:build", recorded)


def test_what_the_code_puts_on_the_path_is_no_more_part_of_it_after_it_has_run(
    write: Write, tmp_path: Path
) -> None:
    write(
        {
            "own_nets.py": f"import sys; sys.path.append({str(tmp_path / 'far')!r}); import own_far\n"
            "from torch import nn\ndef build(): return nn.Conv2d(3, 4, 3)",
            "far/own_far.py": "",
        }
    )
    before = sources("own_nets:build")
    structure = Structure(
        network="own_nets:build", num_classes=4, in_channels=3, blocks={}, source_sha256=before
    )
    from_structure(structure, "own_nets")
    assert sources("own_nets:build") == before
    from_structure(structure, "own_nets")


def test_a_structure_with_something_else_for_checksums() -> None:
    with pytest.raises(MoonshineError, match="source_sha256 is 'e3b0'; allowed: the checksum of each module"):
        check_sources("own_nets:build", "e3b0")
