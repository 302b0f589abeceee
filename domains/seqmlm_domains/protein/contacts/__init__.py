"""Which residues touch, by what attends to what."""
