"""The file formats of a trained network: how it is written in each, and its size there."""
