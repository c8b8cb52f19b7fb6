"""Shared code of the stages that train: the node, its placement, its progress and its files."""
