"""Records as results: the files that nodes left, written again, and the tables and the report that follow from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from moonshine.files import json_bytes, write_bytes, write_json
from moonshine_workflow.graph import nodes
from moonshine_workflow.graph.library import INSTALLED, published_file
from moonshine_workflow.records.record import RECEIPTS, Record, read_record, weights_file
from moonshine_workflow.records.repetitions import REPETITIONS
from moonshine_workflow.report.results import Results, load_results
from moonshine_workflow.tables.collect import collect, write_tables
from moonshine_workflow.tables.shipped import FILE as SHIPPED


def node_files(record: Record, folder: Path) -> dict[str, dict[Path, bytes]]:
    """Return the files that each node left, with the same bytes, and its timings, by path, in the order of the nodes.

    Of trained nodes the weights too, where the record in ``folder`` has them; of the data what describes them.
    """
    found: dict[str, dict[Path, bytes]] = {}
    for node in nodes.all_nodes(record.settings):
        of, files = node.student or "teacher", {}
        if node.stage == "fetch":
            text = json.dumps(record.dataset.content(), indent=2, ensure_ascii=False)
            files[node.outputs[1]] = f"{text}\n".encode()
        elif node.trains and node.name in record.trained:
            one = record.trained[node.name]
            if node.name in record.kept:
                files[node.outputs[0]] = weights_file(folder, node.name).read_bytes()
            files[node.folder / "structure.json"] = json_bytes(one.structure(record.structures[of]).content())
            files[node.folder / "history.csv"] = "".join(f"{line}\n" for line in one.history).encode()
            files[node.folder / "config.json"] = json_bytes(record.config(node.name))
            files[node.folder / "metrics.json"] = json_bytes(one.metrics.content())
        elif node.stage.startswith("structure") and of in record.structures:
            files[node.outputs[0]] = json_bytes(record.structures[of].content())
        elif node.stage.startswith("measure") and of in record.costs:
            files[node.outputs[0]] = json_bytes(record.costs[of].content())
        elif node.stage == "export" and record.shipped:
            files[node.outputs[0] / SHIPPED] = json_bytes(record.shipped.content())
            if record.receipts:
                files[node.outputs[0] / RECEIPTS] = json_bytes(record.receipts)
        if files:
            if node.name in record.timings:
                files[node.timings] = json_bytes(record.timings[node.name].content())
            found[node.name] = files
    return found


def unpack(folder: Path, root: Path) -> Record:
    """Write the study and the results of a record into the empty folder ``root``, as a repository; return the record.

    The tables of a finished study are collected from them. MoonshineError as for `read_record`.
    """
    record = read_record(folder)
    study = record.settings
    base = root / nodes.RESULTS / study.study
    write_json(root / nodes.PARAMS, record.study, sort_keys=False)  # YAML too
    for files in node_files(record, folder).values():
        for path, content in files.items():
            write_bytes(root / path, content)
    if record.restamps:
        uses = [use.content() for use in record.restamps]
        write_bytes(base / "restamps.json", json.dumps(uses).encode())
    if (repetitions := folder / REPETITIONS).is_file():
        shutil.copyfile(repetitions, base / REPETITIONS)
    published = study.report.published
    if published and not (wanted := root / published_file(published)).is_file():
        write_bytes(wanted, (INSTALLED / published).read_bytes())
    if record.finished:
        write_tables(collect(study, root), base)
    return record


@contextmanager
def recorded_results(folder: Path | str) -> Iterator[Results]:
    """Yield the results of a record as a report reads them; their files are gone when the context ends.

    ``folder`` is the record's, such as ``records/digits``. MoonshineError as for `read_record`.
    """
    with TemporaryDirectory(prefix="moonshine-record-") as root:
        record = unpack(Path(folder), Path(root))
        yield load_results(record.settings.study, root, partial=not record.finished)
