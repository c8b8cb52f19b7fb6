from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from moonshine.training.accuracy import top_k_errors


def test_a_label_among_the_first_k_is_no_error() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.3, 0.2], [9.0, 1.0, 2.0, 3.0]])
    labels = torch.tensor([3, 1])
    assert [top_k_errors(logits, labels, k).tolist() for k in (1, 2, 3, 4)] == [
        [True, True],
        [True, True],
        [False, True],
        [False, False],
    ]


@given(seed=st.integers(0, 1000), count=st.integers(0, 8), k=st.integers(1, 9))
def test_equal_to_sorting_every_row(seed: int, count: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 9, generator=generator)
    labels = torch.randint(9, (count,), generator=generator)
    pairs = zip(logits.tolist(), labels.tolist(), strict=True)
    ranks = [sorted(row, reverse=True).index(row[label]) for row, label in pairs]
    assert top_k_errors(logits, labels, k).tolist() == [rank >= k for rank in ranks]


def test_the_first_guess_is_the_largest_logit() -> None:
    logits = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 7
    assert torch.equal(top_k_errors(logits, labels, 1), logits.argmax(1) != labels)
