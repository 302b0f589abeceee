"""The built-in domains. They do not know one another; the core knows them by name only."""
