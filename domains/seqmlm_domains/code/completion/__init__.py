"""Completion of identifiers: candidates, the parts that score them, and their mixture."""
