"""From a line under ``students:`` to the structure of a network."""
