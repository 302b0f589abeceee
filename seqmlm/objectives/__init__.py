"""What is learned: an objective turns encodings into rows with targets and scores the result."""
