"""The losses of distillation: a file for each term that a method may have."""
