"""Files of the pretrained weights that torchvision publishes."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch

from moonshine.errors import MoonshineError
from moonshine.files import sha256

logger = logging.getLogger(__name__)

CHECKSUM = re.compile(r"[-_]([0-9a-f]{8,})$")
"""First digits of a file's SHA-256 at the end of its name, as in torchvision's file names."""


def published_weights(model: str) -> Path:
    """Return the file of the default weights that torchvision publishes for a model.

    They are downloaded once, into torch.hub's cache, and verified by the part of the SHA-256 in their name.
    MoonshineError for a model without weights, for a failed download (it says where the file can be put instead), and
    for a file with another checksum.
    """
    from torchvision.models import get_model_weights

    available = get_model_weights(model.partition("/")[2])
    if not list(available):
        raise MoonshineError(
            f"teacher.weights: torchvision publishes none for {model}; allowed: a file of weights"
        )
    weights = available.DEFAULT
    path = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
    named = CHECKSUM.search(path.stem)
    prefix = named[1] if named else ""
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(path), prefix, progress=False)
        except (OSError, RuntimeError) as error:
            raise MoonshineError(
                f"teacher.weights: {weights.url} could not be downloaded ({error}); allowed: put that file at {path}"
            ) from None
    found = sha256(path)
    if not found.startswith(prefix):
        raise MoonshineError(
            f"teacher.weights: {path} has the checksum {found}, not the one in its name: it is damaged; remove it, and "
            f"it is downloaded again from {weights.url}"
        )
    logger.info("weights %s, checksum %s", weights, found)
    return path
