"""Distillation: the objective, the outputs of both networks that losses read, and the warm start of a student."""
