"""What `moonshine plan` prints besides the plan: what fits a board, and the students that the study gives."""
