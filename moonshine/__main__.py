"""``python -m moonshine``: what the ``moonshine`` command offers, the pipeline's commands where they are installed."""

import sys
from importlib.metadata import entry_points

from moonshine import cli

installed = entry_points(group="console_scripts", name="moonshine")
sys.exit(next((script.load() for script in installed), cli.main)())
