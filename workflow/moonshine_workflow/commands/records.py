"""``moonshine records``: keep a study's results in the repository."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from moonshine.files import write_bytes
from moonshine_workflow.records.record import RECORDS
from moonshine_workflow.records.save import LIMIT, save_record


def add_records(subparsers: Any) -> None:
    """Add ``moonshine records``."""
    parser = subparsers.add_parser(
        "records",
        help="keep a study's results in the repository as small files",
        description="Keep a study's results in the repository as small files: docs/records.md.",
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    save = actions.add_parser("save", help=f"write what is finished of a study to {RECORDS}/STUDY")
    save.add_argument("study", metavar="STUDY", help="the study in params.yaml")
    save.add_argument(
        "--root",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="the clone with its results; default: this one",
    )
    save.add_argument(
        "--limit",
        type=float,
        default=LIMIT / 1e6,
        metavar="MB",
        help="how much of weights an unfinished study keeps; default: %(default)s",
    )
    save.set_defaults(run=_save)
    back = actions.add_parser("restore", help="take a record's finished nodes as results, under both engines")
    back.add_argument("study", metavar="STUDY", help="the study in params.yaml")
    back.set_defaults(run=_restore)
    quote = actions.add_parser("quote", help="write the numbers of README and docs anew from the records")
    quote.set_defaults(run=_quote)


def _save(arguments: argparse.Namespace) -> int:
    record = save_record(arguments.study, arguments.root, limit=round(arguments.limit * 1e6))
    state = "finished" if record.finished else "unfinished"
    networks = f"{len(record.trained)} trained networks, {len(record.kept)} with their weights"
    print(f"{RECORDS / arguments.study}: {state}, {networks}")
    return 0


def _quote(arguments: argparse.Namespace) -> int:
    from moonshine_workflow.records.documents import documents, pictures, rewritten

    for path, text in ({path: rewritten(path) for path in documents(Path())} | pictures(Path())).items():
        if not path.is_file() or text != path.read_text(encoding="utf-8"):
            write_bytes(path, text.encode())
            print(path)
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    from moonshine_workflow.engines.restore import restore

    print(restore(arguments.study))
    return 0
