"""Tiny studies without their data: the size that is given instead, and what the command says of them."""

from __future__ import annotations

from typing import Any

from moonshine.config import Study, parse_study
from tests.workflow import tiny
from workflow import cli
from workflow.estimating.data import Given

TINY = Given(train=50, test=20, shape=(1, 8, 8), classes=2)
SIZE = ("--images", "50", "--test-images", "20", "--input", "1x8x8", "--classes", "2")


def a_study(**sections: Any) -> Study:
    content = tiny.study(**sections)
    if content["data"]["name"] == "arrays":
        content["data"]["sha256"] = "0" * 64
    return parse_study(content)


def estimate(*arguments: str) -> int:
    return cli.main(["estimate", *arguments])
