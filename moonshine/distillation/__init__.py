"""Distillation: its losses, and the warm start of a student from its teacher."""
