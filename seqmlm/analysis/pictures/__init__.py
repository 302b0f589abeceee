"""The pictures of the analyses; matplotlib (the ``plot`` extra) is imported here and only here."""
