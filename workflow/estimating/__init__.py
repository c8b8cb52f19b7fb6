"""What a study will cost: its images, its networks, how long a device takes for them, and the sums."""
