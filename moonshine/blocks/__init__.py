"""Cheap blocks: their notation, and the convolutions that each kind is made of."""
