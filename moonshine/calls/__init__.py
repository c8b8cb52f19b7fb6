"""Calls of ``import moonshine`` that the pipeline does not need: distillation, export and plans in anybody's code."""
