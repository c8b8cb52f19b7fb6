"""What a trained network is in each file format, and how many bytes it takes there."""
