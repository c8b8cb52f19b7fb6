"""Tables of a study: collected results, statistics, and the choice of what ships."""
