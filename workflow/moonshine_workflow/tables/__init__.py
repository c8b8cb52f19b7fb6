"""The tables of a study: collected, compared, and the choice of what ships."""
