"""The nodes of a study: what they are, what they depend on, and the check of the whole study."""
