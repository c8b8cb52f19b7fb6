"""The ``moonshine`` commands, a module for each."""
