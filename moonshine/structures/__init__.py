"""Structures: networks described by data, written, read and rebuilt without pickle; weights that a user brings."""
