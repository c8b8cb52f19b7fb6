"""Which of the user's modules belong to a builder, and that a network is not built when one has changed since."""
