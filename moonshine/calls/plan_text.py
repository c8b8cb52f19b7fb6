"""A plan as text: aligned tables that can be piped."""

from __future__ import annotations

import json
from collections.abc import Sequence

from moonshine.blocks.presets import PRESETS, choices
from moonshine.costs.budgets import MEASURES, Budget, cost_increase, show
from moonshine.costs.latency import unreliable
from moonshine.errors import first_few
from moonshine.search.planning import Option, Plan
from moonshine.search.space import Space
from moonshine.text_table import text_table


def plan_as_text(
    space: Space, budgets: Sequence[Budget], plan: Plan, threads: int, *, everything: bool = False
) -> str:
    """Return what is reachable, what fits and what is slower; ``everything`` also lists what does not fit."""
    shape = "x".join(map(str, space.input_shape))
    count = space.structure.num_classes
    classes = f", {count} classes" if count > 1 else ""  # a detector has no logits to tell
    parts = [
        f"{space.structure.network} at {shape}{classes}: {len(space.places)} "
        f"places, {len(space.blocks) - ('S' in space.blocks)} blocks; budget {' and '.join(map(str, budgets))}",
        _reach(plan, budgets),
        _table(plan, everything),
        _verdict(space, budgets, plan, everything),
        _dearer(plan),
        _slower(plan, threads),
        _generated(plan),
    ]
    if kept := space.structure.kept:
        reasons = sorted(set(kept.values()))
        counts = [f"{list(kept.values()).count(reason)} ({reason})" for reason in reasons]
        parts.append(f"Convolutions that stay: {', '.join(counts)}.")
    parts.append(_left_out(space))
    return "\n\n".join(part for part in parts if part)


def _left_out(space: Space) -> str:
    """Return the blocks that do not fit everywhere, with one reason each."""
    reasons: dict[str, list[str]] = {}
    for refused in space.refused.values():
        for block, reason in refused.items():
            reasons.setdefault(block, []).append(reason)
    lines = [
        f"{block} at {len(each)} of {len(space.fitting)} places: {each[0]}" for block, each in reasons.items()
    ]
    return "\n".join(["Left out where they do not fit:", *lines]) if lines else ""


def _reach(plan: Plan, budgets: Sequence[Budget]) -> str:
    limits = {budget.measure: str(budget) for budget in budgets}
    return "\n".join(
        f"Reachable with these blocks: {show(measure, least)} to {show(measure, most)} "
        f"({MEASURES[measure].shown}; the budget is {limits[measure]})"
        for measure, (least, most) in plan.reach.items()
    )


def _table(plan: Plan, everything: bool) -> str:
    shown = [each for each in plan.uniform if each.fits or everything]
    return table(plan.teacher, (*sorted(shown, key=_size), *plan.given, *plan.mixed))


def table(teacher: Option, options: Sequence[Option]) -> str:
    """Return a table with a line for each option, the teacher's first, and every measure that is known."""
    columns = [measure for measure in MEASURES if measure in teacher.values]
    rows = []
    for option in (teacher, *options):
        ratio = teacher.values["macs"] / option.values["macs"]
        cells = [show(measure, option.values[measure]) for measure in columns]
        rows.append([option.name, *cells, f"{ratio:.2f}x", "yes" if option.fits else "no"])
    return text_table(["", *(MEASURES[measure].head for measure in columns), "MACs ratio", "fits"], rows)


def in_int8(budget: Budget, smallest: Option) -> str:
    """Return a line about another file where the ``smallest`` network's weights are over a budget, but not as INT8."""
    if budget.measure != "fp32" or smallest.values["parameters"] > budget.limit:
        return ""
    return (
        f"An INT8 file has about a byte for each parameter, safetensors four: {smallest.name} may fit "
        f"--budget '{budget} onnx-int8'.\n"
    )


def _size(option: Option) -> float:
    return -option.values["parameters"]


def _verdict(space: Space, budgets: Sequence[Budget], plan: Plan, everything: bool) -> str:
    fitting = sum(option.fits for option in plan.uniform)
    lines = [f"{fitting} of {len(plan.uniform)} students with one block everywhere fit."]
    if fitting < len(plan.uniform) and not everything:
        lines[0] += " --all lists the others."
    if plan.given:
        lines.append(f"Students of the study: {', '.join(each.name for each in plan.given)}.")
    if plan.teacher.fits:
        lines.append("The teacher itself fits.")
    if plan.mixed:
        most = plan.mixed[0]
        kinds = {
            block: list(most.blocks.values()).count(block) for block in sorted(set(most.blocks.values()))
        }
        made = ", ".join(f"{count} x {block}" for block, count in kinds.items())
        budget = [str(each) for each in budgets]
        settings = f"budget: {json.dumps(budget if budgets[1:] else budget[0])}{_candidates(space)}"
        lines.append(
            f"mixed: random mixtures within the budget with the most MACs; mixed 1 has {made}. A study searches "
            f"for one by Fisher potential: students: {{mix: {{mixed: {{{settings}}}}}}}"
        )
    else:
        lines.append("No mixture was found that fits.")
    return "\n".join(lines)


def _candidates(space: Space) -> str:
    """Return the key of a search among the same blocks, unless they are the default."""
    listed = [*space.blocks, *(block for refused in space.refused.values() for block in refused)]
    named = [name for name in PRESETS if {*choices(name)} == {"S", *listed}]
    if named == ["paper"]:
        return ""
    return f", blocks: {named[0] if named else json.dumps(list(dict.fromkeys(listed)))}"


def _dearer(plan: Plan) -> str:
    options = (*plan.uniform, *plan.given)
    found = {option.name: cost_increase(option.values, plan.teacher.values) for option in options}
    said = [f"{name} ({what})" for name, what in found.items() if what]
    return f"Costlier than what they replace: {', '.join(said)}." if said else ""


def _generated(plan: Plan) -> str:
    if not plan.generated:
        return ""
    return (
        f"Generated weights: {', '.join(plan.generated)}. Parameters, and bytes of a safetensors file, are the numbers "
        "from which dense weights are computed. ONNX and torch-export files hold the dense weights, which their "
        "budgets count. Latencies are PyTorch's and include that computation, which those files save."
    )


def _slower(plan: Plan, threads: int) -> str:
    if not plan.block_ms:
        return ""
    slower = [
        f"{block} ({plan.block_ms[block][0]:.2f} ms against {plan.block_ms[block][1]:.2f} ms)"
        for block in plan.slower
    ]
    where = f"on this CPU, {threads} thread{'s' if threads > 1 else ''}, batch 1"
    sure = "reliably " if plan.unreliable else ""
    said = [f"No block is {sure}slower than what it replaces ({where})."]
    if slower:
        said = [f"Slower than what they replace ({where}): {', '.join(slower)}."]
    if found := plan.unreliable:
        said.append(
            f"The latency of {first_few(found)} {unreliable(max(found.values()))}; it is not cached, so the next plan "
            "measures it again."
        )
    return " ".join(said)
