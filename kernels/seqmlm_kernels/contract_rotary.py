"""What rotary promises, as checks of `seqmlm_kernels.contract`."""

# T tokens, H heads, D head dimension

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqmlm_kernels import reference
from seqmlm_kernels.contract_subject import (
    LAYOUTS,
    Layout,
    Results,
    Subject,
    assert_all_close,
    assert_kind,
    assert_repeated,
    assert_unchanged,
    gradients_of,
    naming,
    operands_of,
)
from seqmlm_kernels.rotary_table import rotary_table

OPERANDS = ("q", "k")
# Of queries. Twenty are more than a program of the Triton kernel turns at the larger ones.
HEADS_BY_HEAD_DIM = {2: 3, 12: 3, 64: 40, 128: 20}


def rotary_checks() -> dict[str, Callable[[Subject], None]]:
    """Every promise of rotary by name."""
    return {
        "rotary": check_rotary,
        "rotary in other layouts": check_rotary_layouts,
        "rotary, some gradients": check_some_rotary_gradients,
        "rotary of no tokens": check_rotary_of_nothing,
    }


@dataclass(frozen=True, eq=False)
class _Call:
    """fp64 operands and gradients of what they become, and the angles."""

    operands: Results
    above: Sequence[Tensor]
    table: Tensor

    @classmethod
    def of(cls, subject: Subject, *, tokens: int = 9, heads: int = 3, head_dim: int = 12) -> _Call:
        q, k, *above = (
            subject.normal(tokens, count, head_dim, seed=seed)
            for seed, count in enumerate((heads, 1, heads, 1))
        )
        table = rotary_table(subject.integers(range(tokens)), head_dim)
        return cls({"q": q, "k": k}, above, table)

    def run(
        self,
        backend: Any,
        dtype: torch.dtype,
        *,
        layout: Layout = "contiguous",
        differentiated: Sequence[str] = OPERANDS,
    ) -> Results:
        """Both rotated, and the gradients."""
        leaves, given = operands_of(
            self.operands, dtype, layout=layout, differentiated=differentiated
        )
        rotated = backend.rotary(given["q"], given["k"], self.table)
        for name, x in zip(OPERANDS, rotated, strict=True):
            assert_kind(f"rotated {name}", x, leaves[name].shape, dtype)
        # What is made of an operand without a gradient may have one, or none.
        chosen = [OPERANDS.index(name) for name in differentiated]
        gradients = gradients_of(
            [rotated[i] for i in chosen], leaves, [self.above[i] for i in chosen], layout
        )
        assert_unchanged(given, self.operands)
        return {"rotated q": rotated[0].detach(), "rotated k": rotated[1].detach(), **gradients}


def check_rotary(subject: Subject) -> None:
    """Rotated queries and keys, and their gradients, are those of the reference, every time."""
    for head_dim, heads in HEADS_BY_HEAD_DIM.items():
        with naming(f"head dimension {head_dim}"):
            call = _Call.of(subject, heads=heads, head_dim=head_dim)
            found, again = (call.run(subject.backend, subject.dtype) for _ in range(2))
            assert_all_close(found, call.run(reference, torch.float64), subject.dtype)
            assert_repeated(found, again, "in a repeated run")


def check_rotary_layouts(subject: Subject) -> None:
    """Queries and keys may be parts of others and transposed, and so may the gradients."""
    call = _Call.of(subject, head_dim=64)
    expected = call.run(reference, torch.float64)
    for layout in LAYOUTS:
        with naming(layout):
            found = call.run(subject.backend, subject.dtype, layout=layout)
            assert_all_close(found, expected, subject.dtype)


def check_some_rotary_gradients(subject: Subject) -> None:
    """Queries alone or keys alone may want a gradient, or neither."""
    call = _Call.of(subject)
    for some in (("q",), ("k",), ()):
        with naming(f"gradients of {' and '.join(some) or 'nothing'} alone"):
            found = call.run(subject.backend, subject.dtype, differentiated=some)
            expected = call.run(reference, torch.float64, differentiated=some)
            assert_all_close(found, expected, subject.dtype)
    with naming("torch.inference_mode"), torch.inference_mode():
        q, k = (x.to(subject.dtype) for x in call.operands.values())
        rotated = subject.backend.rotary(q, k, call.table)
        expected = call.run(reference, torch.float64, differentiated=())
        found = dict(zip(("rotated q", "rotated k"), rotated, strict=True))
        assert_all_close(found, expected, subject.dtype)


def check_rotary_of_nothing(subject: Subject) -> None:
    """No token: empty results and empty gradients."""
    found = _Call.of(subject, tokens=0).run(subject.backend, subject.dtype)
    assert all(len(x) == 0 for x in found.values()), "no token must give empty results"
