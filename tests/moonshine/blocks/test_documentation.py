"""The tables of docs/blocks.md follow from the registry, the golden sizes and docs/blocks.yaml.

``python -m tests.moonshine.blocks.test_documentation`` writes them anew.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import yaml

from moonshine.blocks import registry
from moonshine.blocks.expressions import (
    AcrossChannels,
    Branches,
    Chain,
    Conv,
    Expression,
    Identity,
    Shuffle,
    Tied,
    layers,
)
from moonshine.blocks.families.kind import Kind
from moonshine.blocks.geometry import Geometry
from tests.moonshine.blocks.golden import GOLDEN, LEFT_OUT

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "blocks.md"
TEXTS = yaml.safe_load((DOCS / "blocks.yaml").read_text())
JOINTS = {"linear": " → ", "norm": " → norm → ", "norm+relu": " ⇒ ", "relu": " → ReLU → "}
N = 64


def drawn(expression: Expression) -> str:
    """The layers of an expression in a line, as the page explains them."""
    text, joint = "", ""
    for layer in layers(expression):
        text += joint + _drawn(layer)
        joint = JOINTS[layer.joint] if isinstance(layer, Conv | Branches) else " → "
    return text + (" → norm" if joint == JOINTS["norm"] else "")


def _drawn(layer: Expression) -> str:
    match layer:
        case Conv():
            size = "x".join(map(str, layer.kernel))
            grouped = f"/{layer.groups}" if 1 < layer.groups < layer.in_channels else ""
            depthwise = "dw" if layer.groups > 1 and layer.groups == layer.in_channels else ""
            stride = f"↓{layer.stride[0]}" if layer.stride != (1, 1) and not layer.transposed else ""
            up = "↑" if layer.transposed else ""
            dilated = f"*{layer.dilation[0]}" if layer.dilation != (1, 1) else ""
            made = f" ({_words(type(layer.weight).__name__)})" if layer.weight else ""
            return f"{depthwise}{size}{dilated}{grouped}{stride}{up}:{layer.out_channels}{made}"
        case Branches():
            return f"({(' + ' if layer.mode == 'add' else ' ‖ ').join(map(drawn, layer.parts))})"
        case Tied():
            return f"1x1:{layer.rank} → its transpose:{layer.channels}"
        case Shuffle():
            return "shuffle"
        case Identity():
            return "x"
        case AcrossChannels():
            return f"3 along channels:{layer.out_channels} → mean"
        case Chain():
            return drawn(layer)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _row(kind: Kind) -> str:
    text = TEXTS[kind.name]
    parameters, macs = GOLDEN[text["example"]]
    place = Geometry(N, N, stage=1)
    planned = registry.plan_block(text["example"], (place, place))
    what = (inspect.getdoc(kind.expression) or "").partition("\n\n")[0].replace("\n", " ").partition(": ")[2]
    replaces = "once" if kind.replaces == "pair" else "each"
    cells = [
        f"`{kind}`",
        replaces,
        f"{what.rstrip('.')}.<br>`{drawn(planned.units[0])}`",
        text["weights"],
        f"`{text['example']}` {parameters:,} / {macs / 1e6:.1f}M",
        text["helps"],
        text["source"],
        text["distilled"],
    ]
    return f"| {' | '.join(cells)} |"


def tables() -> dict[str, list[str]]:
    """Return the name of each table of the page and its lines."""
    kinds = ["| block | | what it is | weights of one | in WRN-40-2 | when it helps | source | distilled |"]
    kinds += ["|---|---|---|---|---|---|---|---|", *map(_row, registry.KINDS.values())]
    aliases = ["| name | block |", "|---|---|"]
    aliases += [f"| `{name}` | `{_alias(name)}` |" for name in registry.ALIASES]
    left_out = ["| build | parameters | MACs | why it has no counterpart |", "|---|---|---|---|"]
    left_out += [
        f"| {name} | {parameters:,} | {macs / 1e6:.1f}M | {reason} |"
        for name, (parameters, macs, reason) in LEFT_OUT.items()
    ]
    return {"kinds": kinds, "aliases": aliases, "left out": left_out}


def _alias(name: str) -> str:
    meant = registry.ALIASES[name]
    return meant if meant not in registry.KINDS else str(registry.KINDS[meant])


def page(text: str) -> str:
    """Return the page's text with its tables as they should be."""
    for name, lines in tables().items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        text = before + start + "\n".join(lines) + "\n" + end + rest.partition(end)[2]
    return text


def test_the_page_follows_from_the_registry() -> None:
    assert TEXTS.keys() == registry.KINDS.keys()
    assert PAGE.read_text() == page(PAGE.read_text())


def test_every_text_is_written() -> None:
    fields = {"example", "weights", "source", "helps", "distilled"}
    for name, text in TEXTS.items():
        assert text.keys() == fields, name
        assert all(text.values()), name
        assert registry.parse_block(text["example"]).kind == name


def main() -> None:
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
