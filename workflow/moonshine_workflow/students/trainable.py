"""What a network of the user's own cannot train on, told before it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from moonshine.config import Study
from moonshine.errors import MoonshineError
from moonshine.structures.describe import check_logits

if TYPE_CHECKING:
    from moonshine_workflow.students.layouts import Images


def check_training(study: Study, module: nn.Module, images: Images) -> None:
    """MoonshineError for a crop that the network cannot take, and for a last batch of one picture that it cannot train.

    The latter leaves running statistics of batch norm changed.
    """
    if crop := study.augment.crop:
        shape = (images.shape[0], *crop)
        try:
            check_logits(module, study.teacher.name, shape, images.classes, study.is_dense)
        except MoonshineError as error:
            raise MoonshineError(f"augment.crop: {error}") from None
    count, batch_size = images.dataset.get("counts", {}).get("train", 0), study.training.batch_size
    last = count % batch_size or min(count, batch_size)
    if last // study.training.devices == 1:
        _check_single(module, images.shape, batch_size, count)


def _check_single(module: nn.Module, shape: tuple[int, int, int], batch_size: int, count: int) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            module.train()(torch.zeros(1, *shape))
        except ValueError as error:  # torch's, of a batch norm that sees a single value
            raise MoonshineError(
                f"training.batch_size: {batch_size} of {count} pictures leave one for an epoch's last batch, which "
                f"this network cannot train on ({error}); allowed: another training.batch_size"
            ) from None
