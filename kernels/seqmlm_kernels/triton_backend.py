"""Kernels in Triton for CUDA and ROCm devices; see `dispatch.Backend` for what each provides."""

from __future__ import annotations

from seqmlm_kernels.triton.attention import attention
from seqmlm_kernels.triton.launch import INTERPRETED

__all__ = ["INTERPRETED", "attention"]
