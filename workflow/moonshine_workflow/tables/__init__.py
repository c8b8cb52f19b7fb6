"""The tables of a study: collected results, statistics, and the choice of what ships."""
