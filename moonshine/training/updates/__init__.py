"""What changes a network's weights: optimisers, learning rates, averages, frozen layers, phases, compression."""
