"""The lock, the versions the project states, and the messages of a set-up that cannot work."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import moonshine

ROOT = Path(__file__).parents[1]
TFLITE_LOCK = ROOT / "moonshine/formats/tflite/requirements.lock"
LOCKS = (ROOT / "requirements.lock", TFLITE_LOCK)


def lock_entries(lock: Path = LOCKS[0]) -> dict[str, str]:
    """Return package name -> its whole entry in a lock, continuation lines joined."""
    text = lock.read_text().replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {canonicalize_name(re.split(r"[=<>~! \[]", entry, maxsplit=1)[0]): entry for entry in entries}


def locked(name: str, lock: Path = LOCKS[0]) -> str:
    """Return the pinned version of one package."""
    match = re.match(r"[\w.\-]+==([^\s;]+)", lock_entries(lock)[name])
    assert match, f"{name} is not pinned"
    return match[1]


def asked() -> list[Requirement]:
    """Return everything that pyproject.toml asks for, its own extras left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = [
        project["build-system"]["requires"],
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    found = [Requirement(item) for group in groups for item in group]
    return [requirement for requirement in found if requirement.name != project["project"]["name"]]


def asked_by_converter() -> list[Requirement]:
    """Return what the converter of .tflite files asks for, in an environment of its own."""
    lines = TFLITE_LOCK.with_suffix(".in").read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS, ids=["project", "converter"])
def test_every_package_is_pinned_and_hashed(lock: Path) -> None:
    loose = [
        name
        for name, entry in lock_entries(lock).items()
        if not re.fullmatch(r"[\w.\-]+==\S+( ; .+?)?(\s+--hash=sha256:[0-9a-f]{64})+", entry.rstrip())
    ]
    assert loose == []


@pytest.mark.parametrize("lock", LOCKS, ids=["project", "converter"])
def test_a_lock_names_no_registry(lock: Path) -> None:
    text = lock.read_text()
    assert (
        re.findall(r"\S*://\S*|--(?:extra-|default-)?index\S*|--find-links|--trusted-host| @ \S+", text) == []
    )


def test_the_locks_hold_everything_that_is_asked_for() -> None:
    for requirement in asked():
        assert requirement.specifier.contains(
            locked(canonicalize_name(requirement.name)), prereleases=True
        ), requirement
    for requirement in asked_by_converter():
        assert requirement.specifier.contains(locked(requirement.name, TFLITE_LOCK)), requirement


def test_every_import_is_declared() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in [*asked(), *asked_by_converter()]}
    own = {"moonshine", "moonshine_workflow", "tests", *sys.stdlib_module_names}
    distributions = metadata.packages_distributions()
    undeclared = set()
    for path in (
        path for folder in ("moonshine", "workflow", "tests") for path in (ROOT / folder).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for package in {name.partition(".")[0] for name in names} - own:
                homes = {canonicalize_name(name) for name in distributions.get(package, [package])}
                if not homes & declared:
                    undeclared.add(f"{path.relative_to(ROOT)}: {package}")
    assert undeclared == set()


def test_a_wheel_has_both_packages_with_what_projects_need_and_nothing_else(tmp_path: Path) -> None:
    linked = ("studies", "notebooks", "profiles", "dvc.yaml", ".dvcignore", ".dvc")
    for name in ("moonshine", "workflow", "tests", "pyproject.toml", "README.md", "LICENSE", *linked):
        (tmp_path / name).symlink_to(ROOT / name)  # the build leaves files beside them
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = [(ROOT, ROOT / "moonshine"), (ROOT / "workflow", ROOT / "workflow" / "moonshine_workflow")]
    assert packed == {
        str(Path(folder, name).relative_to(base))
        for base, package in sources
        for folder, _, names in os.walk(package, followlinks=True)
        for name in names
        if not folder.endswith("__pycache__")
    }
    assert "moonshine_workflow/project/rules/graph.smk" in packed


def test_torch_and_torchvision_are_a_pair() -> None:
    if metadata.version("torchvision").split("+")[0] != locked("torchvision"):
        pytest.skip("another torchvision than the locked one is installed")
    stated = map(Requirement, metadata.requires("torchvision") or [])
    (torch,) = [requirement for requirement in stated if requirement.name == "torch"]
    assert torch.specifier.contains(locked("torch")), torch


def test_versions_agree() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == moonshine.__version__


def test_tracked_files_name_no_registry_and_no_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    folders = "|".join(["home/\\w", "root/\\w", "Users/\\w", "work/\\w", "opt/\\w"])
    hosts = "|".join(
        [
            "py" + "pi\\.org",
            "python" + "hosted\\.org",
            "download\\.py" + "torch\\.org",
            "(?<!emit-)index" + "-url",
        ]
    )
    forbidden = re.compile(rf"(?<![\w.}}])/({folders})|{hosts}")
    found = []
    for name in filter(None, listing.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():  # a file deleted but not yet committed is still listed
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {match[0]}" for match in forbidden.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    ("fake_python", "message"),
    [
        (
            '[ "$1" = --version ] && echo "Python 3.9.2"; exit 1',
            "Python 3.11 or newer is needed, found: Python 3.9.2",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
    ],
    ids=["too old", "no venv"],
)
def test_setup_says_what_is_missing(tmp_path: Path, fake_python: str, message: str) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{fake_python}\n")
    python.chmod(0o755)
    made = subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode != 0
    assert message in made.stderr
    assert not (tmp_path / ".venv").exists()
