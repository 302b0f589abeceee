"""Rows in flat tensors: nothing is lost, nothing is mixed up."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.domain import Domain
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.rows import Row, RowVisibility, Targets
from seqmlm.vocabulary import AllowedPerTarget, AllowedTokens

LOW, HIGH = AllowedTokens.of(range(16), 40), AllowedTokens.of(range(16, 40), 40)


def ints(values: Any) -> np.ndarray:
    return np.asarray(values, np.int32)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """A row with any columns and targets of two objectives, or of one, or of none."""
    length = draw(st.integers(1, 12))

    def column(low: int, high: int) -> np.ndarray:
        return ints(draw(st.lists(st.integers(low, high), min_size=length, max_size=length)))

    ids = column(0, 39)
    targets = {}
    for name in draw(st.sets(st.sampled_from(["one", "two"]))):
        positions = ints(sorted(draw(st.sets(st.integers(0, length - 1)))))
        weights = draw(st.sampled_from([None, np.linspace(0, 1, len(positions))]))
        targets[name] = Targets(
            positions,
            ids[positions],
            draw(st.sampled_from([None, LOW, HIGH])),
            None if weights is None else weights.astype(np.float32),
        )
    visibility = None
    if draw(st.booleans()):
        visibility = RowVisibility(column(0, 9), column(0, 9), column(-1, 3))
    roles = column(0, 3) if draw(st.booleans()) else None
    return Row(ids, column(0, 500), column(0, 2), visibility, targets, roles)


def cut(batch: PackedBatch, values: torch.Tensor) -> list[list[float]]:
    ends = batch.cu_seqlens.tolist()
    return [values[start:end].tolist() for start, end in pairwise(ends)]


@settings(max_examples=40)
@given(st.lists(rows(), max_size=6))
def test_cutting_a_batch_at_its_boundaries_gives_the_rows_back(packed: list[Row]) -> None:
    batch = pack(packed)
    assert cut(batch, batch.ids) == [row.ids.tolist() for row in packed]
    assert cut(batch, batch.position_ids) == [row.position_ids.tolist() for row in packed]
    assert cut(batch, batch.segment_ids) == [row.segment_ids.tolist() for row in packed]
    if any(row.role_ids is not None for row in packed):
        assert batch.role_ids is not None
        assert batch.role_ids.dtype == torch.int32
        assert cut(batch, batch.role_ids) == [
            [0] * len(row.ids) if row.role_ids is None else row.role_ids.tolist() for row in packed
        ]
    else:
        assert batch.role_ids is None
    assert batch.num_rows == len(packed)
    assert batch.num_tokens == sum(len(row.ids) for row in packed)
    assert batch.max_seqlen == max((len(row.ids) for row in packed), default=0)
    assert batch.ids.dtype == torch.int64
    assert batch.cu_seqlens.dtype == batch.position_ids.dtype == torch.int32


@settings(max_examples=40)
@given(st.lists(rows(), max_size=6))
def test_targets_point_at_the_tokens_they_were_made_for(packed: list[Row]) -> None:
    batch = pack(packed)
    starts = batch.cu_seqlens.tolist()
    assert set(batch.targets) == {name for row in packed for name in row.targets}
    for name, targets in batch.targets.items():
        expected = [
            (start + int(position), int(label))
            for row, start in zip(packed, starts, strict=False)
            if name in row.targets
            for position, label in zip(
                row.targets[name].positions, row.targets[name].labels, strict=True
            )
        ]
        found = zip(targets.rows.tolist(), targets.labels.tolist(), strict=True)
        assert list(found) == expected
        assert torch.equal(batch.ids[targets.rows], targets.labels)


@settings(max_examples=40)
@given(st.lists(rows(), max_size=6))
def test_weights_are_one_where_a_row_gives_none(packed: list[Row]) -> None:
    for name, targets in pack(packed).targets.items():
        parts = [row.targets[name] for row in packed if name in row.targets]
        if all(part.weights is None for part in parts):
            assert targets.weights is None
            continue
        expected = [
            weight
            for part in parts
            for weight in (
                [1.0] * len(part.positions) if part.weights is None else part.weights.tolist()
            )
        ]
        assert targets.weights is not None
        assert targets.weights.dtype == torch.float32
        assert targets.weights.tolist() == expected


@settings(max_examples=40)
@given(st.lists(rows(), max_size=6))
def test_every_target_keeps_its_set_of_allowed_tokens(packed: list[Row]) -> None:
    for name, targets in pack(packed).targets.items():
        parts = [row.targets[name] for row in packed if name in row.targets]
        sets = {id(part.allowed) for part in parts}
        if targets.allowed is None:
            assert all(part.allowed is None for part in parts)
            continue
        assert len(targets.allowed) == len(sets), "equal sets are stored once"
        index = targets.allowed_index
        if index is None:
            assert len(targets.allowed) == 1
            index = torch.zeros(len(targets.rows), dtype=torch.int32)
        expected = [part.allowed for part in parts for _ in part.positions]
        for allowed, row in zip(expected, index.tolist(), strict=True):
            found = AllowedTokens(40, targets.allowed[row].numpy()).mask()
            assert not isinstance(allowed, AllowedPerTarget)
            assert np.array_equal(found, np.ones(40) if allowed is None else allowed.mask())


@settings(max_examples=40)
@given(st.lists(rows(), max_size=6))
def test_rows_without_visibility_see_everything_beside_rows_that_have_one(
    packed: list[Row],
) -> None:
    batch = pack(packed)
    if all(row.visibility is None for row in packed):
        assert batch.visibility is None
        return
    assert batch.visibility is not None
    for name, everything in (("step", 0), ("reach", 0), ("group", -1)):
        column = cut(batch, getattr(batch.visibility, name))
        assert column == [
            [everything] * len(row.ids)
            if row.visibility is None
            else getattr(row.visibility, name).tolist()
            for row in packed
        ]


def test_no_rows_make_an_empty_batch_without_targets() -> None:
    batch = pack([])
    assert (batch.num_rows, batch.num_tokens, batch.max_seqlen) == (0, 0, 0)
    assert batch.cu_seqlens.tolist() == [0]
    assert len(batch.targets_for("mlm").rows) == 0


def test_kept_tokens_are_targets_whose_label_equals_the_input(words: Domain) -> None:
    """With 80/10/10 the label of a kept token is what the encoder sees."""
    objective = MaskedLanguageModelling(words, {"rate": 0.5, "corruptor": {"name": "mixed",
        "mask": 0.0, "random": 0.0, "keep": 1.0}})  # fmt: skip
    encodings = [words.parse(text) for text in ("some text", "and more text", "a")]
    made = [
        row
        for seed, encoding in enumerate(encodings)
        for row in objective.rows(encoding, np.random.default_rng(seed))
    ]
    batch = pack(made)
    targets = batch.targets_for("mlm")
    assert len(targets.rows) > 0
    assert torch.equal(batch.ids[targets.rows], targets.labels)


def test_hidden_tokens_are_targets_whose_label_is_the_true_token(words: Domain) -> None:
    encoding = words.parse("packing")
    policy = MaskingPolicy.from_settings({"rate": 1.0, "corruptor": {"name": "mixed", "mask": 1.0,
        "random": 0.0, "keep": 0.0}}, "policy")  # fmt: skip
    masked = policy.apply(
        encoding,
        vocabulary=words.vocabulary,
        token_range=(7, 33),
        generator=np.random.default_rng(0),
    )
    targets = {"mlm": Targets(masked.positions, encoding.ids[masked.positions])}
    batch = pack([Row.of(words.parse("before")), Row.of(encoding, masked.ids, targets)])
    packed = batch.targets_for("mlm")
    assert words.decode(packed.labels.tolist()) == "packing"
    assert (batch.ids[packed.rows] == words.vocabulary.special.mask).all()


def test_moving_a_batch_moves_every_tensor_of_it() -> None:
    visible = RowVisibility(ints([0, 1]), ints([0, 1]), ints([-1, -1]))
    with_allowed = Targets(ints([0]), ints([1]), LOW, np.ones(1, np.float32))
    without = Targets(ints([1]), ints([2]))
    batch = pack([
        Row(ints([1, 2]), ints([0, 1]), ints([0, 0]), visible, {"one": with_allowed}),
        Row(ints([1, 2]), ints([0, 1]), ints([0, 0]), None, {"one": without}),
    ])  # fmt: skip
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    tensors = [moved.ids, moved.position_ids, moved.segment_ids, moved.cu_seqlens]
    assert moved.visibility is not None
    tensors += [moved.visibility.step, moved.visibility.reach, moved.visibility.group]
    targets = moved.targets["one"]
    for part in (targets.rows, targets.labels, targets.weights, targets.allowed,
                 targets.allowed_index):  # fmt: skip
        assert part is not None
        tensors.append(part)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.max_seqlen == 2


def test_positions_count_from_zero_unless_the_encoding_says_otherwise(words: Domain) -> None:
    row = Row.of(words.parse("abc"))
    assert row.position_ids.tolist() == [0, 1, 2, 3, 4]
    assert row.position_ids.dtype == np.int32
    assert row.targets == {}


@pytest.mark.parametrize("sizes", [[1], [3, 1, 2]])
def test_boundaries_are_running_sums(sizes: list[int]) -> None:
    zeros = [ints([0] * size) for size in sizes]
    batch = pack([Row(column, column, column) for column in zeros])
    assert batch.cu_seqlens.tolist() == [0, *np.cumsum(sizes)]


def test_targets_of_one_row_may_differ_in_what_is_allowed() -> None:
    mixed = Targets(
        np.array([0, 1, 2], np.int32),
        np.array([5, 20, 6], np.int32),
        AllowedPerTarget((HIGH, LOW), np.array([1, 0, 1], np.int32)),
    )
    whole = Targets(np.array([1], np.int32), np.array([3], np.int32), LOW)
    places = np.arange(3, dtype=np.int32)
    packed = pack(
        [
            Row(places, places, np.zeros_like(places), targets={"mlm": targets})
            for targets in (mixed, whole)
        ]
    )
    found = packed.targets["mlm"]
    assert found.allowed is not None
    assert found.allowed_index is not None
    for index, expected in zip(found.allowed_index.tolist(), (LOW, HIGH, LOW, LOW), strict=True):
        assert np.array_equal(found.allowed[index].numpy(), expected.words)
