"""Using a trained model: filling masks, likelihoods, embeddings."""
