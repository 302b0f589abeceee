"""Kernels in Triton, their launchers and the custom operators that torch sees."""
