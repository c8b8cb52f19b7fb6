"""Students of a plan whose blocks or network the study gives."""

from __future__ import annotations

from collections.abc import Sequence

from moonshine.blocks.layers import folded_weights
from moonshine.blocks.registry import parse_block
from moonshine.calls.plan_measurements import AboutOf, Tell, exported
from moonshine.config import Study
from moonshine.costs.budgets import EXPORTED, Budget
from moonshine.search.planning import MEASURED, Option
from moonshine.structures.build import from_structure
from moonshine_workflow.students.layouts import Images, unsearched_structure
from moonshine_workflow.students.sizes import measured_values


def given_students(
    study: Study,
    images: Images,
    listed: Sequence[str],
    budgets: Sequence[Budget],
    threads: int,
    about_of: AboutOf | None,
    tell: Tell,
) -> tuple[tuple[Option, ...], tuple[str, ...]]:
    """Return the students whose blocks or network the study gives, and which of them have generated weights.

    Each is measured as a whole. Without those that have one of the blocks ``listed`` everywhere in the teacher's
    network, which a plan shows anyway.
    """
    files = [budget.measure for budget in budgets if budget.measure in EXPORTED]
    given, generated = [], []
    for name, student in study.students.items():
        is_listed = student.network is None and student.block and str(parse_block(student.block)) in listed
        if student.mixed or student.rival or is_listed:
            continue
        structure = unsearched_structure(study, name, images)
        network = from_structure(structure, study.trusted)
        values = measured_values(network, images, structure, (*MEASURED, "latency"), threads)
        values |= {
            each: exported(structure, each, images.shape, study.trusted, about_of, tell) for each in files
        }
        fits = all(budget.allows(values[budget.measure]) for budget in budgets)
        given.append(Option(name, structure.blocks, values, fits))
        generated += [name] if folded_weights(network) else []
    return tuple(given), tuple(generated)
