"""The traced graph as a ``torch.export`` file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from moonshine.formats.format import FileRunner, Format
from moonshine.formats.quiet import quiet

if TYPE_CHECKING:
    from moonshine.formats.source import Source
    from moonshine.networks.models import Trust

ABOUT = "about.json"
"""The name under which `torch.export.load` finds what the file says about itself."""


def encode(source: Source) -> bytes:
    """Return the file that `torch.export.load` reads; its bytes change with torch's version, which it holds."""
    import torch

    file = io.BytesIO()  # a path would become a name inside the file
    with quiet():
        torch.export.save(source.program, file, extra_files={ABOUT: source.about.text()})
    return file.getvalue()


def open_file(path: Path, threads: int, trust: Trust) -> FileRunner:
    """Return the graph, run by torch with as many threads as the process has set."""
    import torch

    from moonshine.formats.torch_runs import torch_run

    return torch_run(torch.export.load(path).module())


TORCH_EXPORT = Format(
    name="torch-export",
    file="network.pt2",
    title="torch.export",
    encode=encode,
    open=open_file,
    runtime=("torch.export",),
)
