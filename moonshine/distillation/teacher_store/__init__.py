"""The teacher's logits and attention maps, kept on disk for all students of a seed."""
