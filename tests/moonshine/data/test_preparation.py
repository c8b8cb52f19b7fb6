from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from moonshine.config import Arrays, Cifar, Digits
from moonshine.data.preparation import KINDS, prepare
from moonshine.errors import MoonshineError


def test_the_schema_offers_every_kind() -> None:
    names = [get_args(model.model_fields["name"].annotation) for model in (Digits, Cifar, Arrays)]
    assert [name for group in names for name in group] == list(KINDS)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    config = Digits(name="digits", size=8, validation=0.0, test=0.5, split_seed=0)
    with pytest.raises(MoonshineError, match="file/data: cannot write the prepared data here"):
        prepare(config, tmp_path / "file" / "data")
