"""Main table as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from moonshine_workflow.tables.rows import MethodError, StudentRow, look_alikes

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def escape(text: str) -> str:
    """Return text with LaTeX's ten special characters escaped."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def _number(value: float | None, unit: float, digits: int) -> str:
    return "--" if value is None else f"{value / unit:,.{digits}f}"


def _error(error: MethodError | None) -> str:
    if error is None:
        return ""
    if error.mean is None:
        return "--"
    interval = "" if error.half_width is None else rf" \pm {error.half_width:.2f}"
    short = "" if error.n == error.seeds else rf"\,({error.n}/{error.seeds})"
    return f"${error.mean:.2f}{interval}${short}"


def table_to_latex(rows: Sequence[StudentRow], methods: Sequence[str]) -> str:
    r"""Return the main table as a booktabs ``tabular`` to ``\input``: errors as mean and 95 % half-width over seeds.

    Where some runs did not complete, how many did follows in brackets.
    """
    lines = [
        r"% needs \usepackage{booktabs}; test errors in percent, mean and 95 % interval over seeds",
        rf"\begin{{tabular}}{{llrrr{'r' * len(methods)}r}}",
        r"\toprule",
        " & ".join(
            ["Network", "Block", "Params (K)", "MACs (M)", r"Compr.", *map(escape, methods), "Test SE"]
        )
        + r" \\",
        r"\midrule",
    ]
    alike = look_alikes(rows)
    for position, row in enumerate(rows):
        model = row.model
        block = model.block or "--"
        if position == 1 and rows[0].model.student == "teacher":
            lines.append(r"\midrule")
        cells = [
            escape(model.network or "--"),
            escape(f"{block} [{model.student}]" if model.student in alike else block),
            _number(model.parameters, 1e3, 1),
            _number(model.macs, 1e6, 2),
            "--" if model.compression is None else rf"${model.compression:.1f}\times$",
            *(_error(row.errors.get(method)) for method in methods),
            _number(row.test_se, 1, 2),
        ]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"
