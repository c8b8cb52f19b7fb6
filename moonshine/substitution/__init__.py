"""Places for cheap blocks in any network, and the student that has blocks there."""
