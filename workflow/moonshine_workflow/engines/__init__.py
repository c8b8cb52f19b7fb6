"""What the two engines share, and what each knows of the other: state, locks, hand-over."""
