"""Invented results that are collected, notebooks for them, and what a notebook shows, without a kernel."""

import ast

import nbformat
import yaml

from moonshine_workflow.tables.collect import collect, write_tables
from tests.workflow.fake_results import make_study, write_results

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


def prepare(root, study=None, **settings):
    """Results of a study, collected, and its params.yaml."""
    study = study or make_study()
    write_results(root, study, **settings)
    (root / "params.yaml").write_text(yaml.safe_dump(study.model_dump(), sort_keys=False))
    partial = bool(settings.get("absent"))
    if not partial:
        write_tables(collect(study, root), root / "results" / study.study)
    return study


def run_cells(source, **parameters):
    """The HTML that a notebook shows, and what its figures say of themselves."""
    return "".join(
        getattr(one, "html", "") or getattr(one, "alt", "") for one in shown_by(source, **parameters)
    )


def shown_by(source, **parameters):
    """What the cells of a notebook show, without a kernel: the values of their last expressions."""
    shown: list = []
    space = {"display": shown.append}
    for cell in nbformat.read(source, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.id, "exec"), space)
        space["display"] = shown.append
        if "parameters" in cell.metadata.get("tags", ()):
            space |= parameters
        if last is not None:
            shown.append(eval(compile(ast.Expression(last.value), cell.id, "eval"), space))
    return shown


def small_notebook(path, *sources):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
    return path
