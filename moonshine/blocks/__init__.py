"""Cheap blocks: their notation, the convolutions each kind stands for, and the residual block that holds them."""
