"""The training loop and what makes it durable: checkpoints, run folders and signals."""
