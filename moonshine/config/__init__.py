"""Typed schema of ``params.yaml``, one file per concern."""

from moonshine.config.study import Study, load_study

__all__ = ["Study", "load_study"]
