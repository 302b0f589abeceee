"""Arguments that cannot be used are named before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import (
    Visibility,
    attention,
    masked_cross_entropy,
    masked_softmax,
    rotary,
    rotary_table,
    token_log_likelihood,
    top_k,
)


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def run_attention(**changes: Any) -> Tensor:
    arguments: dict[str, Any] = {
        "q": torch.zeros(4, 4, 8),
        "k": torch.zeros(4, 2, 8),
        "v": torch.zeros(4, 2, 8),
        "cu_seqlens": int32(0, 3, 4),
        "max_seqlen": 3,
    }
    return attention(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"q": torch.zeros(4, 8)}, ValueError, r"q has shape \(4, 8\); it must be \[tokens"),
        ({"q": torch.zeros(4, 4, 8).int()}, TypeError, r"q is torch\.int32; .* floating"),
        ({"k": torch.zeros(4, 2, 6)}, ValueError, r"k has shape .* must be \[4, kv_heads, 8\]"),
        ({"k": torch.zeros(4, 3, 8)}, ValueError, r"k has 3 heads; q has 4"),
        ({"k": torch.zeros(4, 0, 8)}, ValueError, r"k has 0 heads"),
        ({"v": torch.zeros(4, 4, 8)}, ValueError, r"v has shape .* must be \[4, 2, 8\]"),
        ({"v": torch.zeros(4, 2, 8).double()}, TypeError, r"v is torch\.float64 and q is"),
        ({"v": torch.zeros(4, 2, 8, device="meta")}, ValueError, r"v is on meta; .* on cpu"),
        ({"cu_seqlens": int32(1, 3, 4)}, ValueError, r"runs from 1 to 4; it must run from 0"),
        ({"cu_seqlens": int32(0, 3, 5)}, ValueError, r"runs from 0 to 5; .* to the 4 tokens"),
        ({"cu_seqlens": int32(0, 3, 2, 4)}, ValueError, r"falls from 3 to 2 at index 2"),
        ({"cu_seqlens": torch.tensor([0.0, 4.0])}, TypeError, r"cu_seqlens is torch\.float32"),
        ({"cu_seqlens": int32()}, ValueError, r"\[sequences \+ 1\]"),
        ({"max_seqlen": 2}, ValueError, r"max_seqlen is 2; the longest .* has 3"),
        ({"window": -1}, ValueError, r"window is -1"),
        ({"window": 1, "positions": int32(0, 1)}, ValueError, r"positions has shape \(2,\)"),
        ({"visibility": Visibility.bidirectional(3)}, ValueError, r"visibility\.step has shape"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_attention_names_the_argument(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_attention(**changes)


def test_attention_accepts_what_the_wrong_cases_change() -> None:
    assert run_attention().shape == (4, 4, 8)


def run_loss(**changes: Any) -> Tensor:
    arguments: dict[str, Any] = {
        "hidden": torch.zeros(3, 4),
        "weight": torch.zeros(33, 4),
        "bias": torch.zeros(33),
        "rows": int32(0, 2),
        "targets": int32(5, 32),
    }
    return masked_cross_entropy(**(arguments | changes))[0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hidden": torch.zeros(4)}, ValueError, r"hidden has shape \(4,\)"),
        ({"weight": torch.zeros(33, 5)}, ValueError, r"must be \[vocabulary, 4\]"),
        ({"weight": torch.zeros(33, 4).double()}, TypeError, r"weight is torch\.float64"),
        ({"bias": torch.zeros(32)}, ValueError, r"bias has shape \(32,\); it must be \[33\]"),
        ({"rows": int32(0, 3)}, ValueError, r"rows contains 3; it must be in \[0, 3\)"),
        ({"rows": int32(-1, 1)}, ValueError, r"rows contains -1"),
        ({"rows": torch.zeros(2)}, TypeError, r"rows is torch\.float32"),
        ({"targets": int32(5)}, ValueError, r"targets has shape \(1,\); .* must be \[2\]"),
        ({"targets": int32(5, 33)}, ValueError, r"targets contains 33; .* \[0, 33\)"),
        ({"allowed": torch.ones(1, 2)}, TypeError, r"allowed is torch\.float32"),
        ({"allowed": int32(1)[None]}, ValueError, r"allowed has shape \(1, 1\); .* \[sets, 2\]"),
        (
            {"allowed": torch.ones(2, 2).int()},
            ValueError,
            r"allowed holds 2 sets and allowed_index is None",
        ),
        (
            {"allowed": torch.ones(2, 2).int(), "allowed_index": int32(0, 2)},
            ValueError,
            r"allowed_index contains 2",
        ),
        ({"allowed_index": int32(0, 0)}, ValueError, r"allowed_index was given without allowed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_loss_names_the_argument(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_loss(**changes)


def test_target_outside_its_set_is_named_with_row_and_id() -> None:
    """Set 0 holds id 5 alone, set 1 ids 5 and 32 (bit 0 of word 1), set 2 nothing."""
    allowed = torch.tensor([[1 << 5, 0], [1 << 5, 1], [0, 0]], dtype=torch.int32)
    assert run_loss(allowed=allowed, allowed_index=int32(0, 1)).shape == (2,)
    assert run_loss(allowed=allowed, allowed_index=int32(0, 2))[1].item() == 0.0
    with pytest.raises(ValueError, match=r"targets\[1\] is 32, which allowed\[0\] does not"):
        run_loss(allowed=allowed, allowed_index=int32(1, 0))


@pytest.mark.parametrize("k", [0, 34])
def test_top_k_outside_the_vocabulary_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k is {k}; it must be from 1 to the 33 ids"):
        top_k(torch.zeros(3, 4), torch.zeros(33, 4), None, int32(0), k)


def test_likelihood_of_ids_for_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token_ids has shape \(1, 2\); .* \[2\] or \[2, n\]"):
        token_log_likelihood(
            torch.zeros(3, 4), torch.zeros(33, 4), None, int32(0, 1), int32(0, 1)[None]
        )


def test_softmax_of_one_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores has shape \(3,\)"):
        masked_softmax(torch.zeros(3), int32(7)[None])


def test_odd_head_dimension_cannot_be_rotated() -> None:
    with pytest.raises(ValueError, match=r"head_dim is 3; .* must be even"):
        rotary_table(int32(0), 3)
    with pytest.raises(ValueError, match=r"head_dim of q is 3; .* must be even"):
        rotary(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), int32(0), table=torch.zeros(2, 1, 3))


def test_table_of_another_batch_is_refused() -> None:
    q = torch.zeros(2, 1, 4)
    with pytest.raises(ValueError, match=r"table has shape \(2, 3, 4\); it must be \[2, 2, 4\]"):
        rotary(q, q, int32(0, 1), table=rotary_table(int32(0, 1, 2), 4))
