"""Arguments that cannot be used are named before anything is computed."""

from __future__ import annotations

import math
import types
from typing import Any, cast

import numpy
import pytest
import torch
from torch import Tensor

from seqmlm_kernels import (
    Visibility,
    attention,
    checks,
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
        ({"q": numpy.zeros((4, 4, 8))}, TypeError, r"q is ndarray; it must be a torch\.Tensor"),
        ({"q": torch.zeros(4, 4, 8).to_sparse()}, ValueError, r"q has layout .* torch\.strided"),
        (
            {"q": torch.zeros(4, 4, 0)},
            ValueError,
            r"q has shape \(4, 4, 0\); .* head_dim at least 1",
        ),
        ({"q": torch.zeros(4, 0, 8)}, ValueError, r"q has shape \(4, 0, 8\); .* at least one head"),
        (
            {"v": torch.zeros(4, 2, 8, device="meta")},
            ValueError,
            r"v is on meta, .* on a CPU or a GPU",
        ),
        ({"v": None}, TypeError, r"v is NoneType; it must be a torch\.Tensor"),
        ({"cu_seqlens": int32(1, 3, 4)}, ValueError, r"runs from 1 to 4; it must run from 0"),
        ({"cu_seqlens": int32(0, 3, 5)}, ValueError, r"runs from 0 to 5; .* to the 4 tokens"),
        ({"cu_seqlens": int32(0, 3, 2, 4)}, ValueError, r"falls from 3 to 2 at index 2"),
        ({"cu_seqlens": int32(0)}, ValueError, r"cu_seqlens has shape \(1,\), .* the 4 tokens"),
        ({"cu_seqlens": [0, 4]}, TypeError, r"cu_seqlens is list; it must be a torch\.Tensor"),
        ({"cu_seqlens": torch.tensor([0.0, 4.0])}, TypeError, r"cu_seqlens is torch\.float32"),
        ({"cu_seqlens": int32()}, ValueError, r"\[sequences \+ 1\]"),
        ({"max_seqlen": 2}, ValueError, r"max_seqlen is 2; the longest .* has 3"),
        ({"max_seqlen": None}, TypeError, r"max_seqlen is NoneType; it must be an int"),
        ({"max_seqlen": 4.0}, TypeError, r"max_seqlen is 4\.0; it must be an int"),
        ({"max_seqlen": -3}, ValueError, r"max_seqlen is -3; it must be at least 0"),
        ({"window": -1}, ValueError, r"window is -1; .* at least 0 .* or None for no window"),
        ({"window": 2.5}, TypeError, r"window is 2\.5; it must be an int, or None"),
        ({"window": True}, TypeError, r"window is True; it must be an int"),
        ({"window": 2**63}, ValueError, r"window is 9223372036854775808; .* less than 2\*\*63"),
        ({"scale": "a"}, TypeError, r"scale is 'a'; it must be a float"),
        ({"scale": math.inf}, ValueError, r"scale is inf; it must be finite"),
        ({"backward": "fast"}, ValueError, r"backward is 'fast'; .* 'deterministic' or 'atomic'"),
        ({"window": 1, "positions": int32(0, 1)}, ValueError, r"positions has shape \(2,\)"),
        (
            {"window": 1, "positions": torch.tensor([0, 1, 2, 2**32])},
            ValueError,
            r"positions runs from 0 to 4294967296; .* fit in int32",
        ),
        (
            {"window": 1, "positions": int32(-(2**31), 2**31 - 1, 0, 5)},
            ValueError,
            r"positions runs from -2147483648 to 2147483647; .* less than 2\*\*31 apart",
        ),
        ({"visibility": (1, 2, 3)}, TypeError, r"visibility is tuple; .*Visibility or None"),
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


def test_positions_that_no_window_measures_may_be_anything() -> None:
    assert run_attention(positions=torch.tensor([0, 1, 2, 2**32])).shape == (4, 4, 8)


def test_positions_as_far_apart_as_int32_allows_are_accepted() -> None:
    """Values 0 are given out, so that what is seen does not matter: the outputs are zeros."""
    positions = int32(-(2**30), 2**30 - 1, 0, 5)
    assert not run_attention(window=3, positions=positions).any()


def test_without_sequences_every_operand_has_a_gradient_of_no_tokens() -> None:
    """It was a copy of q, on which keys and values had no part: their gradient was missing."""
    operands = [torch.zeros(0, 2, 8).requires_grad_() for _ in range(3)]
    output = attention(*operands, cu_seqlens=int32(0), max_seqlen=0)
    torch.autograd.backward(output.sum())
    assert [x.grad is not None for x in operands] == [True, True, True]


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_fp64_among_what_autocast_casts_is_named(name: str) -> None:
    shape = (4, 4, 8) if name == "q" else (4, 2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(TypeError, match=r"does not cast torch\.float64, so all must have it"):
            run_attention(**{name: torch.zeros(shape).double()})
        assert run_attention(k=torch.zeros(4, 2, 8).half()).dtype == torch.bfloat16


def test_boundaries_are_not_read_while_a_graph_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMLM_CHECK", "1")
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    assert not checks._values_are_checked(int32(0))


@pytest.mark.parametrize(
    ("setting", "is_capturing", "expected"),
    [(None, False, False), ("1", False, True), ("1", True, False)],
    ids=["by default", "asked for", "in a captured graph"],
)
def test_values_on_a_gpu_are_read_only_where_asked_for(
    monkeypatch: pytest.MonkeyPatch, setting: str | None, is_capturing: bool, expected: bool
) -> None:
    monkeypatch.delenv("SEQMLM_CHECK", raising=False)
    if setting is not None:
        monkeypatch.setenv("SEQMLM_CHECK", setting)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: is_capturing)
    on_gpu = cast(Tensor, types.SimpleNamespace(device=torch.device("cuda")))
    assert checks._values_are_checked(on_gpu) is expected


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
        ({"hidden": [0.0]}, TypeError, r"hidden is list; it must be a torch\.Tensor"),
        (
            {"hidden": torch.zeros(3, 0), "weight": torch.zeros(33, 0)},
            ValueError,
            r"hidden has shape \(3, 0\); hidden_size must be at least 1",
        ),
        (
            {"weight": torch.zeros(33, 4).to(torch.float8_e4m3fn)},
            TypeError,
            r"weight is torch\.float8_e4m3fn; .* 64, 32 or 16 bits",
        ),
        ({"weight": torch.zeros(33, 5)}, ValueError, r"must be \[vocabulary, 4\]"),
        ({"weight": torch.zeros(33, 4).double()}, TypeError, r"weight is torch\.float64"),
        ({"bias": torch.zeros(32)}, ValueError, r"bias has shape \(32,\); it must be \[33\]"),
        ({"rows": int32(0, 3)}, ValueError, r"rows contains 3; it must be in \[0, 3\)"),
        ({"rows": int32(-1, 1)}, ValueError, r"rows contains -1"),
        ({"rows": torch.zeros(2)}, TypeError, r"rows is torch\.float32"),
        ({"rows": [0, 2]}, TypeError, r"rows is list; it must be a torch\.Tensor"),
        ({"allowed": [1]}, TypeError, r"allowed is list; it must be a torch\.Tensor"),
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


@pytest.mark.parametrize("k", [2.5, True, None], ids=str)
def test_top_k_of_no_whole_number_is_refused(k: Any) -> None:
    with pytest.raises(TypeError, match=r"k is .*; it must be an int"):
        top_k(torch.zeros(3, 4), torch.zeros(33, 4), None, int32(0), k)


def test_likelihood_of_ids_for_other_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token_ids has shape \(1, 2\); .* \[2\] or \[2, n\]"):
        token_log_likelihood(
            torch.zeros(3, 4), torch.zeros(33, 4), None, int32(0, 1), int32(0, 1)[None]
        )


def test_softmax_of_one_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores has shape \(3,\)"):
        masked_softmax(torch.zeros(3), int32(7)[None])


def test_softmax_of_no_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores has shape \(2, 0\); .* at least one id"):
        masked_softmax(torch.zeros(2, 0), torch.zeros(1, 0, dtype=torch.int32))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"base": "a"}, TypeError, r"base is 'a'; it must be a float"),
        ({"base": math.nan}, ValueError, r"base is nan; it must be finite"),
        ({"head_dim": 4.0}, TypeError, r"head_dim is 4\.0; it must be an int"),
        ({"positions": [0, 1]}, TypeError, r"positions is list; it must be a torch\.Tensor"),
    ],
    ids=["text", "not a number", "fraction", "list"],
)
def test_rotary_table_names_the_argument(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"positions": int32(0, 1), "head_dim": 4}
    with pytest.raises(error, match=message):
        rotary_table(**(arguments | changes))


def test_odd_head_dimension_cannot_be_rotated() -> None:
    with pytest.raises(ValueError, match=r"head_dim is 3; .* must be even"):
        rotary_table(int32(0), 3)
    with pytest.raises(ValueError, match=r"head_dim of q is 3; .* must be even"):
        rotary(torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), int32(0), table=torch.zeros(2, 1, 3))


def test_table_of_another_batch_is_refused() -> None:
    q = torch.zeros(2, 1, 4)
    with pytest.raises(ValueError, match=r"table has shape \(2, 3, 4\); it must be \[2, 2, 4\]"):
        rotary(q, q, int32(0, 1), table=rotary_table(int32(0, 1, 2), 4))
