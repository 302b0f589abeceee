"""What a trained model has learned: surprisal, attention, masking, dependence, probes."""
