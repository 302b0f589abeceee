"""Hugging Face weights in and out, without the library transformers."""
