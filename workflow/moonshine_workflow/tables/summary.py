"""Summary tables of a study's runs: errors by method, and differences between methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from moonshine_workflow.tables.rows import Difference, MethodError, Model, Run, StudentRow
from moonshine_workflow.tables.statistics import (
    Pooled,
    binomial_standard_error,
    estimate,
    independent_standard_error,
    paired_differences,
    paired_standard_error,
    pooled_difference,
    standard_error_over_images,
    verdict,
)


def _completed(runs: Iterable[Run]) -> dict[tuple[str, str], dict[int, Run]]:
    """Return the runs with a test error, by (student, method) and seed."""
    found: dict[tuple[str, str], dict[int, Run]] = {}
    for run in runs:
        if run.status == "completed" and run.test_error_pct is not None:
            found.setdefault((run.student, run.method), {})[run.seed] = run
    return found


def _errors(runs: Mapping[int, Run]) -> dict[int, float]:
    return {seed: run.test_error_pct for seed, run in runs.items() if run.test_error_pct is not None}


def _examples(runs: Iterable[Run]) -> int | None:
    """Return the number of test images (the smallest if runs differ), None if a run did not record it."""
    counts = [run.test_examples for run in runs]
    return None if None in counts else min(count for count in counts if count is not None)


def student_rows(
    models: Sequence[Model], runs: Sequence[Run], published: Mapping[tuple[str, str], float]
) -> list[StudentRow]:
    """Return the main table: a row per model, teacher first, then largest first, with the error of each method.

    Diverged runs are left out. ``published`` maps (student, method) to a published error in percent.
    """
    done = _completed(runs)
    planned: dict[tuple[str, str], int] = {}
    for run in runs:
        planned[run.student, run.method] = planned.get((run.student, run.method), 0) + 1
    rows = []
    for model in sorted(models, key=lambda m: (m.student != "teacher", -(m.parameters or 0), m.student)):
        errors = {}
        for (student, method), seeds in planned.items():
            if student != model.student:
                continue
            have = done.get((student, method), {})
            result = estimate(_errors(have).values())
            test_se = _standard_error(result.mean, list(have.values()))
            own = next(run for run in runs if (run.student, run.method) == (student, method))
            errors[own.column] = MethodError(
                result.n,
                seeds,
                result.mean,
                result.half_width,
                test_se,
                published.get((student, "scratch" if method == "teacher" else method)),
            )
        rows.append(StudentRow(model, errors))
    return rows


def comparisons(terms: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the pairs (method, baseline) to compare; AT against scratch, the paper's question, comes first.

    ``terms`` maps a method to its losses. Each method is compared with scratch, then with every other method: one with
    attention transfer with one without, otherwise the later with the earlier.
    """
    names = list(terms)
    has_at = {name: "at" in terms[name].split("+") for name in names}
    leading = sorted(names, key=lambda name: (not has_at[name], terms[name] != "at", names.index(name)))
    ordered = sorted(names, key=lambda name: (has_at[name], names.index(name)))
    return [(name, "scratch") for name in leading] + [(b, a) for a, b in combinations(ordered, 2)]


def differences(
    runs: Sequence[Run], terms: Mapping[str, str], published: Mapping[tuple[str, str], float]
) -> list[Difference]:
    """Return every comparison, for each student and pooled over students."""
    done = _completed(runs)
    students = list(dict.fromkeys(run.student for run in runs if run.student != "teacher"))
    seeds = len({run.seed for run in runs if run.student != "teacher"})
    rows = []
    for method, baseline in comparisons(terms):
        pairs: dict[str, dict[int, float]] = {}
        for student in students:
            a, b = done.get((student, method), {}), done.get((student, baseline), {})
            pairs[student] = paired_differences(_errors(a), _errors(b))
            alone = Pooled(estimate(pairs[student].values()), (student,), tuple(pairs[student]))
            own, reference = published.get((student, method)), published.get((student, baseline))
            reported = None if own is None or reference is None else own - reference
            rows.append(_difference((method, baseline, "student", student), alone, done, seeds, reported))
        pooled = pooled_difference(pairs)
        rows.append(_difference((method, baseline, "pooled", ""), pooled, done, seeds, None))
    return rows


def _standard_error(mean: float | None, runs: Sequence[Run]) -> float | None:
    """Return the standard error over test images: binomial, or of a jackknife in segmentation; None if unknown."""
    if mean is None:
        return None
    if _are_dense(runs):
        by_image = _by_image(runs)
        return None if by_image is None else standard_error_over_images(by_image)
    examples = _examples(runs)
    return None if examples is None else binomial_standard_error(mean, examples)


def _are_dense(runs: Sequence[Run]) -> bool:
    """Return whether the error is 100 - mIoU (semantic segmentation), which has no binomial standard error."""
    return any(run.test_miou_pct is not None for run in runs)


def _by_image(runs: Sequence[Run]) -> list[list[float]] | None:
    """Return the pseudo-values of each run's error, one per image; None if a run did not record them."""
    if any(run.test_image_errors is None for run in runs):
        return None
    return [[float(value) for value in (run.test_image_errors or "").split()] for run in runs]


def _difference_standard_error(runs: Sequence[Run], baseline: Sequence[Run]) -> float | None:
    """Return the standard error over images of a difference: paired by image if runs recorded them, else a bound.

    None if segmentation runs have no value per image, or runs did not record how many test images there were.
    """
    if not runs:
        return None
    examples = _examples([*runs, *baseline])
    if examples is None:
        return None
    if _are_dense([*runs, *baseline]):
        by_image, baseline_by_image = _by_image(runs), _by_image(baseline)
        if by_image is None or baseline_by_image is None:
            return None
        return standard_error_over_images(by_image, baseline_by_image)
    missed = [[run.test_wrong for run in side] for side in (runs, baseline)]
    if all(wrong is not None for side in missed for wrong in side):
        own, reference = ([frozenset((wrong or "").split()) for wrong in side] for side in missed)
        return paired_standard_error(own, reference, examples)
    a, b = (
        [run.test_error_pct for run in side if run.test_error_pct is not None] for side in (runs, baseline)
    )
    return independent_standard_error(sum(a) / len(a), sum(b) / len(b), examples)


def _difference(
    name: tuple[str, str, str, str],
    found: Pooled,
    done: Mapping[tuple[str, str], Mapping[int, Run]],
    seeds: int,
    published: float | None,
) -> Difference:
    method, baseline, _, _ = name
    cells = [(student, seed) for student in found.students for seed in found.seeds]
    own, reference = ([done[student, side][seed] for student, seed in cells] for side in (method, baseline))
    test_se = _difference_standard_error(own, reference)
    images = _examples(own) if _are_dense(own) else None
    result = found.estimate
    said = verdict(result, test_se, images)
    sample = (len(found.students), result.n, seeds)
    return Difference(*name, *sample, result.mean, result.half_width, test_se, said, published, images)
