"""Natural language: text files and tables, learned sub-word vocabularies, words as units."""
