"""The stages of the pipeline: a module, and so a program, for each."""
