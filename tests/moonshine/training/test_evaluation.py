"""The figures of label maps: what they are where there are too few pictures for a standard error."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from moonshine.data.store import VOID, Dataset, Split
from moonshine.training.evaluation import evaluate, guessing_error
from moonshine.training.execution import Execution


class Guesses(nn.Module):
    """The first class everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        scores = torch.zeros(len(images), 2, *images.shape[2:])
        scores[:, 0] = 1
        return scores


def dataset(labels: Tensor) -> Dataset:
    split = Split(torch.zeros(len(labels), 3, *labels.shape[1:], dtype=torch.uint8), labels)
    return Dataset("maps", split, None, split, (0.5,) * 3, (0.2,) * 3, 2, ("a", "b"), scored_classes=2)


def label_maps(*void: bool) -> Tensor:
    """Half of each picture is of the first class, half of the second; all of it is void where said."""
    labels = torch.zeros(len(void), 8, 8, dtype=torch.uint8)
    labels[:, 4:] = 1
    labels[torch.tensor(void)] = VOID
    return labels


@pytest.mark.parametrize("void", [(False,), (False, True)])
def test_one_picture_with_labels_has_no_standard_error(void: tuple[bool, ...], execution: Execution) -> None:
    data = dataset(label_maps(*void))
    found = evaluate(Guesses(), data.test, data, execution)
    assert found["error_pct"] == 75
    assert found["error_se"] is None
    assert found["image_errors"] is None
    json.dumps(found, allow_nan=False)


def test_a_picture_without_labels_says_what_all_say(execution: Execution) -> None:
    data = dataset(label_maps(False, True, False))
    found = evaluate(Guesses(), data.test, data, execution)
    assert found["error_se"] == 0
    assert found["image_errors"] == "75.0000 75.0000 75.0000"
    json.dumps(found, allow_nan=False)


def test_guessing_has_the_error_of_a_network_that_always_names_the_commonest_class(
    execution: Execution,
) -> None:
    labels = label_maps(False, True, False)
    labels[0, 4:, :3] = 0
    data = dataset(labels)
    expected = evaluate(Guesses(), data.test, data, execution)["error_pct"]
    assert guessing_error(labels, data) == pytest.approx(expected)
    images = Dataset("images", data.train, None, data.train, (0.5,) * 3, (0.2,) * 3, 4, tuple("abcd"))
    assert guessing_error(torch.tensor([2, 0, 2, 3, 2]), images) == pytest.approx(40)
