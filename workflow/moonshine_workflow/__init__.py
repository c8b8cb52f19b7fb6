"""The pipeline around the library: the graph, its stages, and everything that the two engines share."""
