"""Distillation: the losses, the taps that they read, and the warm start of a student from its teacher."""
