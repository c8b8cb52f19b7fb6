"""Where cheap blocks can go in a network, and the student that has them there."""
