"""Source code: repositories, identifiers and their roles, learned sub-word vocabularies."""
