"""Device hours that a study takes: its dataset's size, its training steps, how long they take, and the sums."""
