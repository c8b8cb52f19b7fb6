"""examples: predictions of the networks for a few test images, beside the ground truth (semantic segmentation)."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from moonshine.files import write_json
from moonshine_workflow.graph import nodes, stage

logger = logging.getLogger("moonshine")

_SHOWN_IMAGES = 3


def run(job: stage.Job) -> None:
    folder = job.node.outputs[0]
    shutil.rmtree(folder, ignore_errors=True)
    if not job.study.data.is_dense:
        write_json(folder / nodes.EXAMPLES_FILE, {"pictures": [], "classes": [], "networks": []})
        stage.logger.info("nothing to draw: the data have no label maps")
        return
    _draw(job, folder)
    job.afterwards = lambda: _log(job.study.study, folder)


def shown_indices(count: int) -> list[int]:
    """Return the test images that are shown: first, middle and last, whatever was predicted for them."""
    return sorted({round(position * (count - 1) / (_SHOWN_IMAGES - 1)) for position in range(_SHOWN_IMAGES)})


def _draw(job: stage.Job, folder: Path) -> None:
    """One picture per test image, one of its truth, and one per network; of every method the first seed."""
    from moonshine.data.store import Split
    from moonshine.structures.artifacts import load
    from moonshine.training.evaluation import predict
    from moonshine.training.execution import resolve
    from moonshine_workflow.report.label_map_images import colours, draw_image, draw_labels
    from moonshine_workflow.training.prepared import load_prepared

    study = job.study
    dataset = load_prepared(study)
    assert isinstance(dataset.test, Split)
    indices = shown_indices(len(dataset.test))
    shown = Split(dataset.test.images[indices], dataset.test.labels[indices])
    # outputs after the scored classes, such as Cityscapes' void, are drawn as void
    scored = dataset.scored_classes or dataset.num_classes
    # a handful of pictures: no reason to wait for a GPU
    execution = resolve(study.runtime.model_copy(update={"device": "cpu"}), "fp32")
    folder.mkdir(parents=True)
    for index, image, labels in zip(indices, shown.images, shown.labels, strict=True):
        draw_image(image, folder / f"picture-{index}.png")
        draw_labels(labels, folder / f"truth-{index}.png", scored)
    drawn: list[dict[str, object]] = []
    for node in nodes.trained(study):
        if node.seed in (None, study.seeds[0]):
            about = {"student": node.student or "teacher", "method": node.method or node.stage}
            drawn.append({"node": node.name, **about})
            for index, labels in zip(
                indices,
                predict(load(node.folder, trust=study.trusted), shown, dataset, execution),
                strict=True,
            ):
                draw_labels(labels, folder / f"{node.name}-{index}.png", scored)
    classes = [
        {"name": name, "colour": colour}
        for name, colour in zip(dataset.class_names[:scored], colours(scored), strict=True)
    ]
    write_json(folder / nodes.EXAMPLES_FILE, {"pictures": indices, "classes": classes, "networks": drawn})
    stage.logger.info("%d pictures of %d networks", len(indices), len(drawn))


def _log(study: str, folder: Path) -> None:
    """Put the pictures beside the runs in MLflow; where it does not answer, `make ui` does it later."""
    from moonshine_workflow.tracking.back_fill import log_examples
    from moonshine_workflow.tracking.store import TrackingError

    try:
        log_examples(nodes.RESULTS / study)
    except TrackingError as error:
        logger.warning("%s; the pictures are logged by `make ui` later", error)


if __name__ == "__main__":
    stage.program(run, nodes.examples)
