"""Execution of parameterised notebooks, and their reproducible conversion to one HTML file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from moonshine.costs.cache import cached
from moonshine.errors import MoonshineError
from moonshine.files import write_bytes
from moonshine_workflow.graph.library import INSTALLED
from moonshine_workflow.report.markup import TEMPLATES

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from traitlets.config import Config

FOLDER = INSTALLED / "notebooks"


def execute(source: Path, parameters: Mapping[str, Any], running: Path, failed: Path) -> NotebookNode:
    """Run a notebook in a kernel in the working folder and return it with its outputs.

    ``running`` receives the cells as they finish. Where one fails, the copy stays as ``failed``.
    Errors: ``MoonshineError`` naming the cell, what it raised and the copy.
    """
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    from papermill import PapermillExecutionError, execute_notebook

    try:
        running.parent.mkdir(parents=True, exist_ok=True)
        failed.unlink(missing_ok=True)
        running.touch()
    except OSError as error:
        raise _unwritable(running.parent, error) from None
    try:
        with TemporaryDirectory(prefix="moonshine-") as sockets:
            notebook = execute_notebook(
                source,
                running,
                dict(parameters),
                progress_bar=False,
                extra_arguments=["--log-level=ERROR"],  # not one word about transport on every report
                config=_sockets_in(Path(sockets)),
            )
    except PapermillExecutionError as error:
        os.replace(running, failed)
        raise MoonshineError(
            f"{source.name}: cell {error.exec_count} raised {error.ename}: {error.evalue}; "
            f"the half-run copy is {failed}"
        ) from None
    except BaseException:
        if running.exists():
            os.replace(running, failed)
        raise
    running.unlink()
    return notebook


def _unwritable(path: Path, error: OSError) -> MoonshineError:
    return MoonshineError(f"{path}: cannot be written ({error.strerror or error})")


def _sockets_in(folder: Path) -> Config:
    """Talk to the kernel over sockets in a folder of its own.

    TCP ports are chosen before they are bound: another notebook that starts at the same time may get the same ones, and
    its kernel's messages then have an invalid signature here.
    """
    from traitlets.config import Config

    return Config(KernelManager={"transport": "ipc", "connection_file": str(folder / "kernel.json")})


def drop_volatile(notebook: NotebookNode) -> NotebookNode:
    """Drop what differs between two runs on the same data: times, random ids, the version of Python."""
    notebook.metadata.pop("papermill", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for position, cell in enumerate(notebook.cells):
        cell.id = f"cell-{position}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    return notebook


def to_json(notebook: NotebookNode) -> str:
    """Return the notebook as the text of its file."""
    import nbformat

    return str(nbformat.writes(notebook)) + "\n"


def to_html(notebook: NotebookNode, title: str) -> str:
    """Convert a notebook to one self-contained HTML file without code cells; it asks no server for anything."""
    from nbconvert.exporters import HTMLExporter

    exporter = HTMLExporter(
        template_name="basic",
        exclude_input=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    body, _ = exporter.from_notebook_node(notebook)
    vega = _vega() if "data-chart=" in body else ""
    return TEMPLATES.get_template("page.html.jinja").render(title=title, body=body, vega=vega) + "\n"


def _vega() -> str:
    """Return Vega-Embed with all that it needs, as JavaScript for a page; putting it together takes a second."""
    import vl_convert

    about = {"script": "window.vegaEmbed = vegaEmbed;", "vl-convert": version("vl-convert-python")}
    made = cached(about, lambda: {"bundle": vl_convert.javascript_bundle(about["script"])})
    return str(made["bundle"])


def render_notebook(
    source: Path,
    parameters: Mapping[str, Any],
    *,
    title: str,
    html: Path,
    notebook: Path | None,
    failed: Path,
) -> None:
    """Execute a notebook and write it as HTML and, where ``notebook`` is given, as an executed notebook.

    Neither file is left over from an earlier run when this one fails.
    """
    for old in (html, notebook):
        if old is not None:
            try:
                old.unlink(missing_ok=True)
            except OSError as error:
                raise _unwritable(old, error) from None
    done = drop_volatile(execute(source, parameters, failed.with_name(f".running-{failed.name}"), failed))
    page = to_html(done, title)
    if notebook is not None:
        write_bytes(notebook, to_json(done).encode())
    write_bytes(html, page.encode())
