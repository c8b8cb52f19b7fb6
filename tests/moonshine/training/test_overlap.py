"""mIoU against a pixel-by-pixel count, and its standard error against the bootstrap."""

from __future__ import annotations

from statistics import mean

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moonshine.training.overlap import image_values, iou, mean_iou, overlaps, standard_error


def maps(seed: int, images: int = 3, outputs: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions of so many outputs, and labels of three classes with void pixels among them."""
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(outputs, (images, 5, 6), generator=generator)
    labels = torch.randint(3, (images, 5, 6), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = -100
    return predicted, labels


@given(seed=st.integers(0, 10**6), outputs=st.integers(2, 5))
def test_it_is_the_count_of_pixels_one_by_one(seed: int, outputs: int) -> None:
    predicted, labels = maps(seed, outputs=outputs)
    pairs = [
        (p, t) for p, t in zip(predicted.flatten().tolist(), labels.flatten().tolist(), strict=True) if t >= 0
    ]
    shares = []
    for k in range(3):
        union = sum(p == k or t == k for p, t in pairs)
        if union:
            shares.append(100 * sum(p == k and t == k for p, t in pairs) / union)
    intersection, union = overlaps(predicted, labels, 3)
    assert float(mean_iou(intersection.sum(0), union.sum(0))) == pytest.approx(mean(shares))


def test_it_agrees_with_a_confusion_matrix_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    predicted, labels = maps(1, images=8, outputs=3)
    known = labels >= 0
    expected = metrics.jaccard_score(labels[known], predicted[known], average=None)
    intersection, union = overlaps(predicted, labels, 3)
    assert iou(intersection.sum(0), union.sum(0)).tolist() == pytest.approx((100 * expected).tolist())


def test_a_class_that_occurs_nowhere_does_not_count() -> None:
    labels = torch.zeros(1, 2, 2, dtype=torch.int64)
    intersection, union = overlaps(labels.clone(), labels, 3)
    by_class = iou(intersection.sum(0), union.sum(0))
    assert by_class[0] == 100
    assert by_class[1:].isnan().all()
    assert mean_iou(intersection.sum(0), union.sum(0)) == 100


def test_an_output_beyond_the_classes_only_misses() -> None:
    labels = torch.tensor([[[0, 0], [1, 1]]])
    predicted = torch.tensor([[[0, 2], [1, 1]]])
    intersection, union = overlaps(predicted, labels, 2)
    assert iou(intersection.sum(0), union.sum(0)).tolist() == [50, 100]


def test_void_pixels_count_nowhere() -> None:
    labels = torch.tensor([[[0, -100], [1, -100]]])
    predicted = torch.tensor([[[0, 1], [1, 0]]])
    intersection, union = overlaps(predicted, labels, 2)
    assert iou(intersection.sum(0), union.sum(0)).tolist() == [100, 100]


def test_the_standard_error_is_that_of_drawing_other_images() -> None:
    """Against the bootstrap over images, to the 15 % that sixty images and a ratio leave open."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (60, 8, 8), generator=generator)
    quality = torch.rand(60, 1, 1, generator=generator)
    predicted = torch.where(
        torch.rand(labels.shape, generator=generator) < quality, labels, torch.zeros_like(labels)
    )
    intersection, union = overlaps(predicted, labels, 3)
    values = image_values(intersection, union)
    assert values is not None
    draws = torch.randint(60, (4000, 60), generator=generator)
    again = mean_iou(intersection[draws].sum(1), union[draws].sum(1))
    assert float(values.mean()) == pytest.approx(float(mean_iou(intersection.sum(0), union.sum(0))), abs=1)
    assert standard_error(values) == pytest.approx(float(again.std()), rel=0.15)


def test_one_image_has_no_standard_error() -> None:
    assert image_values(torch.tensor([[3, 1]]), torch.tensor([[4, 2]])) is None
    assert standard_error(torch.tensor([3.0])) is None
    assert standard_error(None) is None
    assert standard_error(torch.tensor([1.0, 3.0])) == pytest.approx(1)


def test_an_image_without_labels_says_what_all_say() -> None:
    intersection, union = torch.tensor([[3, 1], [0, 0], [2, 2]]), torch.tensor([[4, 2], [0, 0], [2, 4]])
    values = image_values(intersection, union)
    assert values is not None
    assert values.isfinite().all()
    assert values[1] == pytest.approx(float(mean_iou(intersection.sum(0), union.sum(0))))


def test_nothing_is_left_without_the_only_image_that_has_labels() -> None:
    assert image_values(torch.tensor([[0, 0], [3, 1]]), torch.tensor([[0, 0], [4, 2]])) is None
