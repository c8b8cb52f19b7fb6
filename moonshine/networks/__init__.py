"""Networks: ours by their names, anybody's by where they come from, and the blocks in them."""
