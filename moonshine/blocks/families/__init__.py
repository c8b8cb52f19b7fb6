"""Kinds of block, one file per family: each is a function from a place and values to an expression."""
