"""Export of a trained network: a folder of files, each with a receipt from its own runtime, and a model card."""
