"""Numbers in documents, written from records.

What stands between ``<!-- record STUDY PART -->`` and ``<!-- end -->`` is generated; on lines of its own where the
first comment begins a line, else within the line. A part may have arguments, such as ``difference at scratch``.
"""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

from moonshine.errors import MoonshineError
from moonshine_workflow.records.pictures import pareto_svg, picture_of
from moonshine_workflow.records.quotes import PARTS
from moonshine_workflow.records.record import RECORDS, find_record
from moonshine_workflow.records.unpack import recorded_results
from moonshine_workflow.report.results import Results

DOCUMENTS = ("README.md", "docs/*.md")
_MARKED = re.compile(r"<!-- record (\S+) ([^>]+) -->(.*?)<!-- end -->", re.DOTALL)


def documents(root: Path) -> list[Path]:
    """Return the documents of a repository that may quote records."""
    return [path for pattern in DOCUMENTS for path in sorted(root.glob(pattern))]


def pictures(root: Path) -> dict[Path, str]:
    """Return the figures that the documents of a repository quote, by their file, as SVG. Errors as for `rewritten`."""
    marked = (_MARKED.findall(path.read_text(encoding="utf-8")) for path in documents(root))
    found = {}
    for study in {study for parts in marked for study, what, _ in parts if what == "pareto"}:
        with recorded_results(find_record(study, root / RECORDS)) as results:
            found[root / picture_of(study)] = pareto_svg(results)[0]
    return found


def rewritten(path: Path, records: Path = RECORDS) -> str:
    """Return the text of a document with its generated parts made anew.

    MoonshineError, naming the document, for a study without a record, and a part that is unknown or not in the record.
    """
    with ExitStack() as opened:
        found: dict[str, Results] = {}

        def part(match: re.Match[str]) -> str:
            study, what, _ = match.groups()
            if study not in found:
                found[study] = opened.enter_context(recorded_results(find_record(study, records)))
            name, *arguments = what.split()
            if name not in PARTS:
                raise MoonshineError(f"found the part '{name}' of {study}; allowed: {', '.join(PARTS)}")
            try:
                text = PARTS[name](found[study], *arguments)
            except TypeError:
                raise MoonshineError(f"found the arguments {arguments} of the part '{name}'") from None
            frame = "\n" if match.string[: match.start()].endswith("\n") else ""
            return f"<!-- record {study} {what} -->{frame}{text}{frame}<!-- end -->"

        try:
            return _MARKED.sub(part, path.read_text(encoding="utf-8"))
        except MoonshineError as error:
            raise MoonshineError(f"{path}: {error}") from None
