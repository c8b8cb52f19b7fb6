"""What makes the library a pipeline: one module per stage, and the hand-over between engines."""
