"""measure: write a network's exact costs, and its latency on this machine apart from the results."""

from __future__ import annotations

from moonshine.config import Study
from moonshine.costs.budgets import EXPORTED, parse_budgets
from moonshine.costs.cost import cost
from moonshine.costs.latency import latency
from moonshine.costs.measured import MeasuredCost
from moonshine.structures.build import from_structure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.structures import structure_of
from moonshine_workflow.students.layouts import images_of
from moonshine_workflow.students.sizes import measured_values, timed_batches


def run(job: stage.Job) -> None:
    study = job.study
    images = images_of(study)
    structure, teacher = structure_of(study, job.node.student), structure_of(study)
    module = from_structure(structure, study.trusted)
    shape = images.shape
    found = cost(module, shape)
    asked = measured_values(module, images, structure, _measures(study), study.runtime.threads, found)
    exported = {measure: int(asked[measure]) for measure in EXPORTED if measure in asked}
    MeasuredCost(
        parameters=found.parameters,
        macs=found.macs,
        ops=found.ops,
        bytes={"fp32": found.bytes, "bf16": found.bytes_bf16, **exported},
        peak_activation_bytes=found.peak_activation_bytes,
        batch=1,
        input_shape=shape,
        compression=teacher.parameters / found.parameters,
        **({"latency_ms": asked["latency"]} if "latency" in asked else {}),
    ).write(job.node.outputs[0])
    job.timing["latency_ms"] = {
        str(batch): latency(module, (batch, *shape), study.runtime.threads)
        for batch in timed_batches(study.data.is_dense)
    }


def _measures(study: Study) -> list[str]:
    """What the study's budget limits beside the costs that are always measured."""
    budgets = parse_budgets(study.ship.budget) if study.ship else ()
    return [budget.measure for budget in budgets if budget.measure in (*EXPORTED, "latency")]


if __name__ == "__main__":
    stage.program(run, nodes.measure)
