"""The search for a block for every place under a budget."""
