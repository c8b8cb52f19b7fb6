"""measure: write a network's exact costs, and its latency on this machine apart from the results."""

from __future__ import annotations

from moonshine.config import Study
from moonshine.costs.budgets import EXPORTED, parse_budgets
from moonshine.costs.cost import cost
from moonshine.costs.latency import latency
from moonshine.costs.measured import MeasuredCost
from moonshine.progress import ReportProgress
from moonshine.structures.build import from_structure
from moonshine_workflow.graph import nodes, stage
from moonshine_workflow.graph.structures import structure_of
from moonshine_workflow.graph.work_progress import reporting
from moonshine_workflow.students.layouts import images_of
from moonshine_workflow.students.sizes import measured_values, timed_batches


def run(job: stage.Job) -> None:
    with reporting(job.node) as progress:
        _measure(job, progress)


def _measure(job: stage.Job, progress: ReportProgress) -> None:
    study = job.study
    images = images_of(study)
    structure, teacher = structure_of(study, job.node.student), structure_of(study)
    module = from_structure(structure, study.trusted)
    shape = images.shape
    found = cost(module, shape)
    measures, batches = _measures(study), timed_batches(study.data.is_dense)
    asked: dict[str, float] = {}
    for done, measure in enumerate(measures, 1):
        asked |= measured_values(module, images, structure, [measure], study.runtime.threads, found)
        progress("measurements", done, len(measures) + len(batches))
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
    latencies = {}
    for done, batch in enumerate(batches, len(measures) + 1):
        latencies[str(batch)] = latency(module, (batch, *shape), study.runtime.threads)
        progress("measurements", done, len(measures) + len(batches))
    job.timing["latency_ms"] = latencies


def _measures(study: Study) -> list[str]:
    """What the study's budget limits beside the costs that are always measured."""
    budgets = parse_budgets(study.ship.budget) if study.ship else ()
    return [budget.measure for budget in budgets if budget.measure in (*EXPORTED, "latency")]


if __name__ == "__main__":
    stage.program(run, nodes.measure)
