"""Knowledge graphs: triples as sequences, entities as tokens, link prediction by likelihood."""
