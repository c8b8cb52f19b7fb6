"""Files that make a folder a project in which both engines run the graph of the installed package."""

from __future__ import annotations

from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine.files import write_bytes
from moonshine_workflow.graph.dvc_file import FILE, dvc_file
from moonshine_workflow.graph.library import INSTALLED
from moonshine_workflow.graph.nodes import PARAMS

SNAKEFILE = Path("Snakefile")
_SNAKEFILE = """\
# The graph for Snakemake is installed with moonshine-distil; the study is params.yaml.
from moonshine_workflow.graph.library import INSTALLED
from moonshine_workflow.graph.nodes import PARAMS


include: INSTALLED / "rules" / "graph.smk"


rule all:
    input:
        COMPLETE,
"""
GITIGNORE = Path(".gitignore")
_IGNORED = "/.moonshine/\n/.snakemake/\n/.venv/\n/mlflow.db*\n/mlruns/\n/results/\n__pycache__/\n"
_DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n"
_WITHOUT_GIT = (
    "    # not inside of a git repository; remove this line where it becomes one\n    no_scm = true\n"
)


def project_files(folder: Path) -> dict[Path, str]:
    """Return every file of a project in ``folder`` but the study, by its path in it."""
    in_git = any((above / ".git").exists() for above in (folder.resolve(), *folder.resolve().parents))
    copied = {
        Path(".dvcignore"): INSTALLED / "dvcignore",
        **{
            Path("profiles", name, "profile.yaml"): INSTALLED / "profiles" / name / "profile.yaml"
            for name in ("default", "slurm")
        },
        **{Path(".dvc", "plots", path.name): path for path in sorted((INSTALLED / "plots").iterdir())},
    }
    return {
        SNAKEFILE: _SNAKEFILE,
        FILE: dvc_file(),
        GITIGNORE: _IGNORED,
        Path(".dvc", "config"): _DVC_CONFIG + (_WITHOUT_GIT if not in_git else ""),
        Path(".dvc", ".gitignore"): "/config.local\n/tmp\n/cache\n",
        **{path: source.read_text(encoding="utf-8") for path, source in copied.items()},
    }


def require_room(folder: Path) -> None:
    """MoonshineError where a new study would have to overwrite a file; other files are left as they are."""
    there = [str(path) for path in (PARAMS, SNAKEFILE, FILE) if (folder / path).exists()]
    if there:
        raise MoonshineError(
            f"{folder.resolve()}: found {', '.join(there)}; allowed: a folder without, since nothing is overwritten "
            "(`moonshine init --graph` writes what is missing beside a params.yaml)"
        )


def write_project(folder: Path, files: dict[Path, str]) -> list[Path]:
    """Write the files that are not there, and return them."""
    missing = [path for path in files if not (folder / path).exists()]
    for path in missing:
        write_bytes(folder / path, files[path].encode())
    return missing
