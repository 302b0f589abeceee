"""Effects of mutations: notation, scores of a model, simple baselines, table and picture."""
