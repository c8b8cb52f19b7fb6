"""Statistics over a few seeds and one test set: means, intervals, paired differences, verdicts.

Errors are percentages; differences and standard errors are percentage points. Lower is better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Literal

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964
Verdict = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True)
class Estimate:
    """Mean of ``n`` values with the half-width of its 95 % interval; a single value has no interval."""

    n: int
    mean: float | None
    half_width: float | None


@dataclass(frozen=True)
class Pooled:
    """Difference averaged over ``students``, from the ``seeds`` for which all of them have a pair."""

    estimate: Estimate
    students: tuple[str, ...]
    seeds: tuple[int, ...]


def t_quantile(degrees: int, confidence: float = CONFIDENCE) -> float:
    """Return t such that Student's t lies within [-t, t] with probability ``confidence``."""
    from scipy.special import stdtrit

    if degrees < 1:
        raise ValueError(f"degrees of freedom must be at least 1, found {degrees}")
    return float(stdtrit(degrees, (1 + confidence) / 2))


def estimate(values: Iterable[float]) -> Estimate:
    """Return the mean and its Student's t interval, t(n - 1) s / sqrt(n) with s the sample standard deviation."""
    sample = list(values)
    n = len(sample)
    if n == 0:
        return Estimate(0, None, None)
    mean = sum(sample) / n
    if n == 1:
        return Estimate(1, mean, None)
    deviation = sqrt(sum((value - mean) ** 2 for value in sample) / (n - 1))
    return Estimate(n, mean, t_quantile(n - 1) * deviation / sqrt(n))


def paired_differences(errors: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """Return ``errors - baseline`` for each seed that both have: runs of one seed see the same batches in order."""
    return {seed: errors[seed] - baseline[seed] for seed in sorted(errors) if seed in baseline}


def pooled_difference(differences: Mapping[str, Mapping[int, float]]) -> Pooled:
    """Pool the differences of all students: average them for each seed, then apply Student's t over seeds.

    ``differences`` maps a student to its paired differences by seed.

    The model is ``d[student, seed] = mean + student + seed + noise`` with fixed students (the claim is about these
    students) and random seeds. A seed fixes the order of batches for all students, and they share a teacher, so the
    differences of one seed are correlated: treating every student-seed pair as an independent sample would make the
    interval too narrow, by up to sqrt(number of students). Averaging within a seed first leaves one independent value
    per seed, whatever the correlation, at the price of few degrees of freedom. Variation with the teacher's own seed is
    not covered.

    The average must be over the same students for every seed, or effects of students would look like noise between
    seeds. If pairs are missing, the largest complete rectangle of students and seeds is used, with at least two seeds
    if possible.
    """
    seeds_of = {student: frozenset(pairs) for student, pairs in differences.items() if pairs}
    if not seeds_of:
        return Pooled(Estimate(0, None, None), (), ())
    candidates = {*seeds_of.values(), frozenset.intersection(*seeds_of.values())} - {frozenset()}

    def rectangle(seeds: frozenset[int]) -> tuple[str, ...]:
        return tuple(student for student, have in seeds_of.items() if seeds <= have)

    def preference(seeds: frozenset[int]) -> tuple[bool, int, int, Sequence[int]]:
        return len(seeds) > 1, len(seeds) * len(rectangle(seeds)), len(seeds), sorted(seeds)

    best = max(candidates, key=preference)
    students, seeds = rectangle(best), tuple(sorted(best))
    per_seed = [sum(differences[student][seed] for student in students) / len(students) for seed in seeds]
    return Pooled(estimate(per_seed), students, seeds)


def binomial_standard_error(error_pct: float, examples: int) -> float:
    """Return the binomial standard error of an error rate on n test images, sqrt(p (1 - p) / n), in points.

    It does not shrink with more seeds, since all use the same test images; for a mean over seeds it is an upper bound.
    """
    rate = error_pct / 100
    return 100 * sqrt(max(rate * (1 - rate), 0.0) / examples)


def paired_standard_error(
    wrong: Sequence[Collection[Hashable]], baseline: Sequence[Collection[Hashable]], examples: int
) -> float:
    """Return the standard error over test images of a difference between mean error rates, in points.

    ``wrong`` and ``baseline`` hold the misclassified test images of each run. Each image has one mean difference over
    runs; their standard deviation over sqrt(examples) is the standard error. Networks tend to fail on the same images,
    so it is far smaller than for two independent test sets.
    """
    # fsum does not depend on the order, which differs between processes for a set of names
    own, reference = (Counter(image for run in runs for image in run) for runs in (wrong, baseline))
    shifts = [
        own[image] / len(wrong) - reference[image] / len(baseline) for image in own.keys() | reference.keys()
    ]
    mean = fsum(shifts) / examples
    alike = examples - len(shifts)  # images that every run classified correctly
    return 100 * sqrt((fsum((shift - mean) ** 2 for shift in shifts) + alike * mean**2) / examples**2)


def standard_error_over_images(
    errors: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]] = ()
) -> float | None:
    """Return the standard error over images of a mean error, or of its difference from ``baseline``, in points.

    Both hold, for each run, the jackknife pseudo-values of the error in percent, in the order of the test set. Each
    image has one mean over runs (minus the baseline's); their sample standard deviation over sqrt(images) is the
    standard error. None for a single image.
    """
    own = [sum(values) / len(values) for values in zip(*errors, strict=True)]
    reference = [sum(values) / len(values) for values in zip(*baseline, strict=True)] or [0.0] * len(own)
    shifts = [a - b for a, b in zip(own, reference, strict=True)]
    if len(shifts) < 2:
        return None
    mean = sum(shifts) / len(shifts)
    return sqrt(sum((shift - mean) ** 2 for shift in shifts) / (len(shifts) - 1) / len(shifts))


def independent_standard_error(error_pct: float, baseline_pct: float, examples: int) -> float:
    """Return an upper bound of `paired_standard_error` for runs that did not record which images they missed.

    In points. The two error rates are taken to be independent, which overstates the standard error.
    """
    own = binomial_standard_error(error_pct, examples)
    other = binomial_standard_error(baseline_pct, examples)
    return sqrt(own**2 + other**2)


def margin_of_test_set(test_se: float, images: int | None = None) -> float:
    """Return the half-width of the 95 % interval over test images: normal, or Student's t of a jackknife of ``images``.

    Error counts come from hundreds of images or more; a segmentation test set may have a dozen, so that its n - 1
    degrees of freedom matter.
    """
    return (NORMAL_QUANTILE if images is None else t_quantile(images - 1)) * test_se


def margin_of_both(half_width: float, test_margin: float) -> float:
    """Return the half-widths over seeds and over test images, which are independent, added in quadrature.

    The larger of the two alone would find a difference where there is none too often: with ten seeds in one case out of
    ten instead of one in twenty (simulated in ``tests/workflow/tables/test_statistics.py``).
    """
    return sqrt(half_width**2 + test_margin**2)


def verdict(difference: Estimate, test_se: float | None, images: int | None = None) -> Verdict:
    """Return ``better`` (lower) or ``worse`` only if zero is outside the 95 % interval over seeds and test images.

    ``images`` as in `margin_of_test_set`.
    """
    if difference.mean is None or difference.half_width is None or test_se is None:
        return "inconclusive"
    if abs(difference.mean) <= margin_of_both(difference.half_width, margin_of_test_set(test_se, images)):
        return "inconclusive"
    return "better" if difference.mean < 0 else "worse"


def dominated(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return for each (cost, error) whether another point is no worse in both and better in one."""
    return [
        any(x <= cost and y <= error and (x, y) != (cost, error) for x, y in points) for cost, error in points
    ]
