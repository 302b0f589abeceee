"""Kernels in Triton for CUDA and ROCm devices; see `dispatch.Backend` for what each provides."""

from __future__ import annotations

from seqmlm_kernels.triton.attention import attention
from seqmlm_kernels.triton.launch import INTERPRETED
from seqmlm_kernels.triton.projection import (
    masked_cross_entropy,
    masked_softmax,
    token_log_likelihood,
    top_k,
)
from seqmlm_kernels.triton.rotary import rotary

__all__ = [
    "INTERPRETED",
    "attention",
    "masked_cross_entropy",
    "masked_softmax",
    "rotary",
    "token_log_likelihood",
    "top_k",
]
