"""Calls of ``import moonshine`` on which no result of a study depends: for use in anybody's code."""
