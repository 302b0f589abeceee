"""Linear probes of frozen embeddings, beside baselines that know no model."""
