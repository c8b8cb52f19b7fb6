"""The stages of the pipeline, one module and one program for each."""
