"""How a program ends on a mistake of its user's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from moonshine.errors import MoonshineError

USAGE_ERROR = 2
Arguments = ParamSpec("Arguments")


def reports_mistakes(main: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Make a MoonshineError of a program's ``main`` its message on stderr and exit status `USAGE_ERROR`."""

    @wraps(main)
    def reporting(*arguments: Arguments.args, **named: Arguments.kwargs) -> int:
        try:
            return main(*arguments, **named)
        except MoonshineError as error:
            print(f"error: {error}", file=sys.stderr)
            return USAGE_ERROR

    return reporting
