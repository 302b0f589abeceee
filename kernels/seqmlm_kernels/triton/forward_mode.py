"""What the operators of this backend cannot do and would not say: derivatives in forward mode."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from seqmlm_kernels.dispatch import BackendUnavailableError


def refuse_tangents(**operands: Tensor | None) -> None:
    """Raise where an operand has a tangent, which an operator of torch drops without a word.

    Raises:
        BackendUnavailableError: names the first operand that has one.
    """
    for name, operand in operands.items():
        if operand is not None and unpack_dual(operand).tangent is not None:
            raise BackendUnavailableError(
                f"backend='triton' cannot run: {name} has a tangent, of torch.func.jvp or "
                "torch.autograd.forward_ad, and its kernels have derivatives in reverse mode "
                "alone. Pass backend='reference', or 'torch' where PyTorch has what is missing."
            )
