"""Search for a block at every place under a budget: mixed students, rivals and plans."""
