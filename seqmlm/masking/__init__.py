"""Which units are hidden (selectors), what replaces them (corruptors), how many (policy)."""
