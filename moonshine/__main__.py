"""``python -m moonshine`` is the ``moonshine`` command."""

import sys
from importlib.metadata import entry_points

command = next(iter(entry_points(group="console_scripts", name="moonshine")))
sys.exit(command.load()())
