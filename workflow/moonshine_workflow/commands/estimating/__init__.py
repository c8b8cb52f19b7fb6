"""Device hours of a study: size of its dataset, its training steps, the time of each, and their sums."""
