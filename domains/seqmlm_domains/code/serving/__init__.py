"""Completion for editors: a queue before the model, a language server, an HTTP service."""
