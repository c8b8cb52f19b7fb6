"""The typed schema of ``params.yaml``, a file for each concern."""

from moonshine.config.study import Study, load_study

__all__ = ["Study", "load_study"]
