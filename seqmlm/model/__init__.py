"""Token ids to hidden states to scores. Encoder, layers and heads need torch alone."""
