"""Students: from an entry under ``students:`` to the structure of a network."""
