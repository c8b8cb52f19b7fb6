"""The ``moonshine`` command in a clone: the library's commands and those of the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from moonshine import cli
from workflow.status_command import add_status

COMMANDS = (*cli.COMMANDS, add_status)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; see ``moonshine.cli.main``."""
    return cli.main(argv, COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
