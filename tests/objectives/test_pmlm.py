"""UniLM-v2: auto-encoding and partially autoregressive targets in one row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.packing import pack
from seqmlm.domain import Domain, build_domain
from seqmlm.encoding import Encoding, EncodingBatch, IntArray
from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm.objectives.pmlm import (
    NEVER,
    PseudoMaskedLanguageModelling,
    pseudo_masked_rows,
)
from seqmlm.objectives.rows import Row
from seqmlm_kernels.visibility import visible_pairs

Models = Callable[..., Model]
MIXED = {"rate": 0.5, "corruptor": {"name": "mixed"}}

# objectives.md 4.3, from the paper's figure: x1..x6, masked {2, 4, 5}, predicted {4, 5}, then {2}.
WORKED_EXAMPLE = """
111111000000
111111000000
111111000000
111111000000
111111000000
111111000000
111111110000
111111110000
111111001100
111111001100
111111001110
111111001101
"""
MASK, PSEUDO = 99, 98


def visible(row: Row) -> np.ndarray:
    assert row.visibility is not None
    columns = (row.visibility.step, row.visibility.reach, row.visibility.group)
    pairs: np.ndarray = visible_pairs(*map(torch.from_numpy, columns)).numpy()
    return pairs


def six_tokens() -> Encoding:
    ids = np.arange(1, 7, dtype=np.int32)
    return Encoding(ids, ids - 1, np.zeros_like(ids), position_ids=ids)


def pseudo_masked_row(
    encoding: Encoding, ids: IntArray, positions: IntArray, step: np.ndarray, *, pseudo_id: int
) -> tuple[Row, IntArray]:
    """One row, with the true tokens of the last block; where the pseudo tokens stand in it."""
    everywhere = np.ones(len(positions), np.bool_)
    row, _, pseudo = pseudo_masked_rows(
        EncodingBatch([encoding]), ids, positions, step, pseudo_id=pseudo_id, is_shown=everywhere
    )
    return row, pseudo


def worked_example() -> tuple[Row, np.ndarray]:
    encoding = six_tokens()
    ids = np.array([1, MASK, 3, MASK, MASK, 6], np.int32)
    positions, step = np.array([1, 3, 4], np.int32), np.array([2, 1, 1])
    return pseudo_masked_row(encoding, ids, positions, step, pseudo_id=PSEUDO)


def test_the_worked_example_is_reproduced() -> None:
    row, pseudo = worked_example()
    assert row.visibility is not None
    expected = [[digit == "1" for digit in line] for line in WORKED_EXAMPLE.split()]
    assert visible(row).tolist() == expected
    assert row.ids.tolist() == [1, MASK, 3, MASK, MASK, 6, PSEUDO, PSEUDO, 4, 5, PSEUDO, 2]
    assert row.position_ids.tolist() == [1, 2, 3, 4, 5, 6, 4, 5, 4, 5, 2, 2]
    assert row.visibility.step.tolist() == [0] * 6 + [NEVER, NEVER, 1, 1, NEVER, 2]
    assert row.visibility.reach.tolist() == [0] * 6 + [0, 0, 1, 1, 1, 2]
    assert row.visibility.group.tolist() == [-1] * 6 + [1, 1, -1, -1, 2, -1]
    assert pseudo.tolist() == [10, 6, 7]


@given(data=st.data(), length=st.integers(1, 12))
def test_the_rule_agrees_with_the_signed_integers_of_unilm(
    data: st.DataObject, length: int
) -> None:
    """microsoft/unilm masks by one integer w per token: 0 content, s true, -s pseudo of block s."""
    ids = np.arange(length, dtype=np.int32)
    encoding = Encoding(ids, ids, np.zeros_like(ids))
    step_of = data.draw(st.lists(st.integers(0, 4), min_size=length, max_size=length))
    steps = [step for step in range(1, 5) if step in step_of]
    blocks = [np.flatnonzero(np.array(step_of) == step).astype(np.int32) for step in steps]
    positions = np.flatnonzero(step_of).astype(np.int32)
    step = np.array([steps.index(step_of[position]) + 1 for position in positions], np.int64)
    row, _ = pseudo_masked_row(encoding, ids, positions, step, pseudo_id=PSEUDO)
    signed = [0] * length
    for number, block in enumerate(blocks, start=1):
        signed += [-number] * len(block) + [number] * len(block)
    w = np.array(signed)
    query, key = w[:, None], w[None, :]
    true_keys = key >= 0
    expected = (
        ((query >= 0) & true_keys & (key <= query))
        | ((query < 0) & true_keys & (-query > key))
        | ((query < 0) & (key == query))
    )
    assert np.array_equal(visible(row), expected)


def reachable(row: Row) -> np.ndarray:
    """What may reach each token through any number of layers, bool ``[n, n]``."""
    seen = visible(row)
    while not np.array_equal(further := (seen.astype(int) @ seen) > 0, seen):
        seen = further
    return seen


@pytest.mark.parametrize("policy", [{"rate": 0.5}, MIXED], ids=["masked", "80/10/10"])
@given(text=st.text("abc .", max_size=14), seed=st.integers(0, 2**32))
def test_no_autoregressive_target_can_be_copied(
    words: Domain, policy: dict[str, object], text: str, seed: int
) -> None:
    """An oracle that copies what stands at the target's position in anything it can reach."""
    objective = PseudoMaskedLanguageModelling(words, policy)
    encoding = words.parse(text)
    (row,) = objective.rows(encoding, np.random.default_rng(seed))
    targets, seen = row.targets["pmlm"], reachable(row)
    assert row.visibility is not None
    for position, label in zip(targets.positions, targets.labels, strict=True):
        if row.visibility.group[position] >= 0:
            same_place = row.position_ids == row.position_ids[position]
            assert label not in row.ids[seen[position] & same_place]


@given(text=st.text("abc .", max_size=14), seed=st.integers(0, 2**32))
def test_rows_drop_the_last_block_and_the_kept_tokens(words: Domain, text: str, seed: int) -> None:
    objective = PseudoMaskedLanguageModelling(words, MIXED)
    encoding = words.parse(text)
    (row,) = objective.rows(encoding, np.random.default_rng(seed))
    targets, n = row.targets["pmlm"], len(encoding)
    assert row.visibility is not None
    assert targets.masking is not None
    appended = targets.masking.selected - targets.masking.kept
    pseudo = row.visibility.group >= 0
    last = row.visibility.group == row.visibility.group.max()
    assert pseudo.sum() == appended
    assert len(row.ids) == n + 2 * appended - (last.sum() if appended else 0)
    assert len(targets.positions) == targets.masking.selected + appended
    assert np.array_equal(targets.labels, encoding.ids[row.position_ids[targets.positions]])


def test_the_order_of_the_blocks_is_drawn(words: Domain) -> None:
    objective = PseudoMaskedLanguageModelling(words, {"rate": 1.0, "selector": {"name": "token"}})
    first = []
    for seed in range(600):
        (row,) = objective.rows(words.parse("abc"), np.random.default_rng(seed))
        assert row.visibility is not None
        order = row.position_ids[row.visibility.group >= 0]
        first.append(int(order[0]))
    assert np.bincount(first).tolist() == pytest.approx([0, 200, 200, 200], abs=45)


def auto_encoding_states(model: Model, row: Row, length: int) -> torch.Tensor:
    states: torch.Tensor = model(pack([row]))
    return states[:length]


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_the_corrupted_sequence_does_not_see_what_is_appended(
    words: Domain, build_model: Models, backend: str
) -> None:
    """Other appended ids: bit-equal. Nothing appended: equal within rounding."""
    model = build_model(words, backend=backend)
    encoding = words.parse("abc def ghi")
    objective = PseudoMaskedLanguageModelling(words, {"rate": 0.5, "selector": {"name": "token"}})
    (row,) = objective.rows(encoding, np.random.default_rng(0))
    n = len(encoding)
    assert len(row.ids) > n + 4
    before = auto_encoding_states(model, row, n)
    ids = row.ids.copy()
    ids[n:] = words.vocabulary.id_of("z")
    assert torch.equal(before, auto_encoding_states(model, replace(row, ids=ids), n))
    bare = Row.of(encoding, row.ids[:n])
    torch.testing.assert_close(before, auto_encoding_states(model, bare, n), rtol=1e-4, atol=1e-5)


def left_to_right_loss(model: Model, words: Domain, encoding: Encoding) -> torch.Tensor:
    """-log p(x_t | x_<t), nats each, by one run per token that holds neither x_t nor later ones.

    What the model is conditioned on besides is the fully masked sequence, which tells its length
    alone.
    """
    hidden_positions = np.flatnonzero(encoding.unit_ids >= 0)
    masked = encoding.ids.copy()
    masked[hidden_positions] = words.vocabulary.special.mask
    losses = []
    for count, position in enumerate(hidden_positions):
        done = hidden_positions[: count + 1].astype(np.int32)
        row, pseudo = pseudo_masked_row(
            encoding,
            masked,
            done,
            np.arange(1, count + 2),
            pseudo_id=words.vocabulary.special.mask,
        )
        # The earlier pseudo tokens go: the run holds masks, x_<t and one place to predict at.
        keep = np.ones(len(row.ids) - 1, np.bool_)
        keep[pseudo[:-1]] = False
        assert row.visibility is not None
        columns = [row.visibility.step, row.visibility.reach, row.visibility.group]
        short = Row(
            row.ids[:-1][keep],
            row.position_ids[:-1][keep],
            row.segment_ids[:-1][keep],
            type(row.visibility)(*(column[:-1][keep] for column in columns)),
        )
        last = len(short.ids) - 1
        assert encoding.ids[position] not in short.ids[short.position_ids == position]
        low, high = words.vocabulary.ranges["words"]
        state = model(pack([short]))[last]
        scores = state @ model.encoder.token_embedding.weight.T + model.token_head.bias
        losses.append(-scores[low:high].log_softmax(0)[int(encoding.ids[position]) - low])
    return torch.stack(losses)


def test_unit_blocks_from_left_to_right_give_the_causal_loss(
    words: Domain, build_model: Models
) -> None:
    model = build_model(words)
    encoding = words.parse("abcdefg")
    masked = encoding.ids.copy()
    positions = np.flatnonzero(encoding.unit_ids >= 0)
    masked[positions] = words.vocabulary.special.mask
    row, pseudo = pseudo_masked_row(
        encoding,
        masked,
        positions.astype(np.int32),
        np.arange(1, len(positions) + 1),
        pseudo_id=words.vocabulary.special.mask,
    )
    low, high = words.vocabulary.ranges["words"]
    states = model(pack([row]))[torch.from_numpy(pseudo).long()]
    scores = states @ model.encoder.token_embedding.weight.T + model.token_head.bias
    labels = torch.from_numpy(encoding.ids[positions]).long() - low
    found = -scores[:, low:high].log_softmax(1)[torch.arange(len(labels)), labels]
    expected = left_to_right_loss(model, words, encoding)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_scale_the_two_kinds_of_targets(words: Domain, build_model: Models) -> None:
    model = build_model(words)

    def loss(auto_encoding: float = 1.0, autoregressive: float = 1.0) -> tuple[float, float]:
        objective = PseudoMaskedLanguageModelling(
            words, {"rate": 0.5}, auto_encoding=auto_encoding, autoregressive=autoregressive
        )
        batch = pack(objective.rows(words.parse("abcdefgh"), np.random.default_rng(0)))
        found = objective.loss(model, model(batch), batch)
        assert float(found.count) == objective.count(batch)
        return found.total.item(), found.count.item()

    filled, appended = loss(autoregressive=0.0), loss(auto_encoding=0.0)
    both, uneven = loss(), loss(auto_encoding=0.5, autoregressive=2.0)
    assert np.add(filled, appended) == pytest.approx(both)
    assert np.add(np.multiply(0.5, filled), np.multiply(2.0, appended)) == pytest.approx(uneven)


def test_a_spare_token_can_stand_for_the_pseudo_mask() -> None:
    domain = build_domain({"name": "protein"})
    objective = PseudoMaskedLanguageModelling(domain, {"rate": 0.5}, pseudo_token="<null_1>")
    (row,) = objective.rows(domain.parse("MKTAYIAKQR"), np.random.default_rng(0))
    assert row.visibility is not None
    assert set(row.ids[row.visibility.group >= 0].tolist()) == {31}


@pytest.mark.parametrize("token", ["A", "<pad>", "<cls>", "<P>"], ids=str)
def test_a_pseudo_mask_that_means_something_else_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match=r"pseudo_token = .* stands for nothing else"):
        PseudoMaskedLanguageModelling(build_domain({"name": "protein"}), pseudo_token=token)


@pytest.mark.parametrize("weights", [(0, 0), (-1, 1)])
def test_weights_are_not_negative_and_not_both_zero(
    words: Domain, weights: Sequence[float]
) -> None:
    with pytest.raises(ConfigError, match="must be 0 or more"):
        PseudoMaskedLanguageModelling(words, auto_encoding=weights[0], autoregressive=weights[1])


@pytest.mark.parametrize(("token", "expected"), [(None, 0.4 / 1.4), ("<null_1>", 0.2 / 1.4)])
def test_mask_token_rate_is_that_of_the_whole_row(token: str | None, expected: float) -> None:
    domain = build_domain({"name": "protein"})
    objective = PseudoMaskedLanguageModelling(domain, {"rate": 0.2}, pseudo_token=token)
    assert objective.mask_token_rate == pytest.approx(expected)


def test_learned_positions_need_no_more_rows_than_the_sequence_has(
    words: Domain, build_model: Models
) -> None:
    """The appended tokens share the position ids of the originals."""
    model = build_model(words, positions="learned", max_positions=10)
    objective = PseudoMaskedLanguageModelling(words, {"rate": 1.0})
    batch = pack(objective.rows(words.parse("abcdefgh"), np.random.default_rng(0)))
    assert batch.max_seqlen > batch.num_positions == 10
    assert model(batch).isfinite().all()
