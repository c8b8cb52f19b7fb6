"""Records: what a study's results were, as small files in the repository."""
