"""The visibility rule against the worked example and an independent formulation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seqmlm_kernels import Visibility
from seqmlm_kernels.visibility import pairs_within_window, sequence_positions, visible_pairs

NOT_READ = torch.iinfo(torch.int32).max


def int32(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("window", [2**31 - 1, 2**31, 2**40, 2**63 - 1])
def test_a_window_beyond_all_distances_hides_nothing(window: int, dtype: torch.dtype) -> None:
    positions = torch.tensor([0, 7, 2**31 - 1], dtype=dtype)
    assert pairs_within_window(positions, window).all()


def test_pseudo_masked_example_has_the_published_matrix() -> None:
    """x1..x6 with {2, 4, 5} masked, predicted in the order {4, 5} then {2} (UniLM-v2)."""
    tokens = ["x1", "M2", "x3", "M4", "M5", "x6", "P4", "P5", "x4", "x5", "P2", "x2"]
    ints = {
        **dict.fromkeys(("x1", "M2", "x3", "M4", "M5", "x6"), (0, 0, -1)),
        **dict.fromkeys(("P4", "P5"), (NOT_READ, 0, 1)),
        "P2": (NOT_READ, 1, 2),
    }
    ints = {**ints, "x4": (1, 1, -1), "x5": (1, 1, -1), "x2": (2, 2, -1)}
    step, reach, group = torch.tensor([ints[t] for t in tokens], dtype=torch.int32).T
    context, first, second = [1] * 6, [1, 1], [1]
    expected = torch.tensor(
        [
            *[[*context, 0, 0, 0, 0, 0, 0]] * 6,
            *[[*context, *first, 0, 0, 0, 0]] * 2,
            *[[*context, 0, 0, *first, 0, 0]] * 2,
            [*context, 0, 0, *first, *second, 0],
            [*context, 0, 0, *first, 0, *second],
        ],
        dtype=torch.bool,
    )
    assert torch.equal(visible_pairs(step, reach, group), expected)


def signed_int_rule(signed: list[int]) -> Tensor:
    """UniLM's own rule: 0 is source, s the true tokens of block s, -s its pseudo tokens."""

    def sees(query: int, key: int) -> bool:
        if query >= 0:
            return key >= 0 and key <= query
        return (key >= 0 and -key > query) or key == query

    return torch.tensor([[sees(query, key) for key in signed] for query in signed])


@pytest.mark.parametrize("seed", range(200))
def test_rule_agrees_with_signed_integers_of_unilm(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    num_tokens = int(torch.randint(1, 24, (), generator=generator))
    num_blocks = int(torch.randint(1, 6, (), generator=generator))
    signed = torch.randint(-num_blocks, num_blocks + 1, (num_tokens,), generator=generator)
    pseudo = signed < 0
    step = torch.where(pseudo, NOT_READ, signed).int()
    reach = torch.where(pseudo, -signed - 1, signed).int()
    group = torch.where(pseudo, -signed, -1).int()
    assert torch.equal(visible_pairs(step, reach, group), signed_int_rule(signed.tolist()))


def test_causal_visibility_is_lower_triangular_in_every_sequence() -> None:
    visibility = Visibility.causal(int32(0, 3, 3, 7))
    assert visibility.step.tolist() == [0, 1, 2, 0, 1, 2, 3]
    second = slice(3, 7)
    pairs = visible_pairs(
        visibility.step[second], visibility.reach[second], visibility.group[second]
    )
    assert torch.equal(pairs, torch.ones(4, 4, dtype=torch.bool).tril())


def test_bidirectional_visibility_shows_everything() -> None:
    visibility = Visibility.bidirectional(3)
    assert visible_pairs(visibility.step, visibility.reach, visibility.group).all()


def test_prefix_sees_itself_and_response_is_causal() -> None:
    step = int32(0, 0, 1, 2)
    pairs = visible_pairs(step, step, int32(-1, -1, -1, -1))
    assert pairs.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_window_measures_positions_not_indices() -> None:
    pairs = pairs_within_window(int32(0, 5, 1), window=1)
    assert pairs.int().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_positions_restart_in_every_sequence() -> None:
    assert sequence_positions(int32(0, 0, 2, 5)).tolist() == [0, 1, 0, 1, 2]


def test_wrong_integer_type_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"group is torch\.int64, it must be a torch\.int32"):
        Visibility(step=int32(0), reach=int32(0), group=torch.tensor([-1]))


def test_fields_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"reach has shape \(1,\) and step \(2,\)"):
        Visibility(step=int32(0, 0), reach=int32(0), group=int32(-1, -1))
