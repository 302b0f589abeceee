"""Completion over HTTP, for editors that speak no LSP, and a page to try it."""

from seqmlm_domains.code.serving.http.process import run_service

__all__ = ["run_service"]
