"""Cross-entropy on labels, of images and of pixels, and the weights of classes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from moonshine.config.training import Training
from moonshine.data.mixing import MixedBatch
from moonshine.training.labels import LabelLoss, class_weights, cross_entropy, label_loss


def training(offset: float | None) -> Training:
    content = {"epochs": 1, "batch_size": 2, "schedule": {"kind": "poly", "power": 1.0}, "precision": "fp32"}
    content["optimizer"] = {"kind": "adam", "lr": 0.1, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.0}
    return Training.model_validate(content | ({"class_weights": {"log_offset": offset}} if offset else {}))


def test_pixels_without_a_label_are_left_out() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(3, (2, 4, 5))
    labels[0, :2] = -100
    weights = torch.tensor([1.0, 2.0, 0.5])
    for chosen in (None, weights):
        expected = F.cross_entropy(logits, labels, chosen)
        torch.testing.assert_close(cross_entropy(logits, labels, chosen), expected)
    (gradient,) = torch.autograd.grad(cross_entropy(logits, labels), logits)
    assert not gradient[0, :, :2].any()
    assert gradient[1].any()


def test_a_batch_without_any_label_has_no_loss() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    for weights in (None, torch.ones(3)):
        loss = cross_entropy(logits, torch.full((1, 2, 2), -100), weights)
        assert loss == 0
        loss.backward()
    assert not logits.grad.any()  # type: ignore[union-attr]


def test_half_precision_is_summed_in_fp32() -> None:
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    found = cross_entropy(logits.bfloat16(), labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, F.cross_entropy(logits.bfloat16().float(), labels))


def test_a_share_of_smoothed_labels_is_spread_over_all_classes() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    logs = logits.log_softmax(1).numpy()
    smooth = [[0.2 / 3 + 0.8 * (k == label) for k in range(3)] for label in labels.tolist()]
    expected = -sum((logs[n] * smooth[n]).sum() for n in range(4)) / 4
    assert cross_entropy(logits, labels, smoothing=0.2).item() == pytest.approx(expected, rel=1e-12)
    pixels, maps = logits.T.reshape(1, 3, 2, 2), torch.tensor([[[0, 2], [1, -100]]])
    torch.testing.assert_close(
        cross_entropy(pixels, maps, smoothing=0.2), cross_entropy(logits[:3], labels[:3], smoothing=0.2)
    )
    smoothed = label_loss(training(None).model_copy(update={"label_smoothing": 0.2}), ())
    assert smoothed(logits, labels).item() == pytest.approx(expected, rel=1e-12)
    plain = label_loss(training(None), ())(logits, labels)
    assert torch.equal(plain, F.cross_entropy(logits, labels))


def test_class_weights_are_those_of_enet() -> None:
    found = class_weights(training(1.02), (0.5, 0.01, 0.49))
    assert found is not None
    assert found.tolist() == pytest.approx([1 / math.log(1.02 + p) for p in (0.5, 0.01, 0.49)], rel=1e-5)
    assert class_weights(training(None), (0.5, 0.5)) is None


def test_mixed_labels_count_by_their_shares() -> None:
    logits, labels, others = (
        torch.randn(6, 3),
        torch.tensor([0, 1, 2, 0, 1, 2]),
        torch.tensor([1, 1, 0, 2, 0, 2]),
    )
    found = LabelLoss(smoothing=0.1)(logits, labels, MixedBatch(others, 0.3))
    targets = 0.7 * F.one_hot(labels, 3) + 0.3 * F.one_hot(others, 3)
    torch.testing.assert_close(found, F.cross_entropy(logits, targets, label_smoothing=0.1))
