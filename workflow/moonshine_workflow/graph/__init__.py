"""The graph: the nodes of a study, what they depend on, and the check of the whole study."""
