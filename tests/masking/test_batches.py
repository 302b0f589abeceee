"""What is hidden in a sequence does not depend on the others of its batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.encoding import NOT_MASKABLE, Encoding, EncodingBatch
from seqmlm.masking.policy import MaskingPolicy
from seqmlm.masking.selectors import draw, random_places
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.pmlm import PseudoMaskedLanguageModelling
from seqmlm.objectives.rows import BatchObjective
from seqmlm.objectives.rtd import ReplacedTokenDetection
from seqmlm.randomness import Streams
from seqmlm.registry import SELECTORS

# Unit sizes of the sequences of a batch; 0 stands for a token that is never masked.
LAYOUTS = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=5)

TYPES = {"types": [0, 1]}
POLICIES: dict[str, dict[str, Any]] = {
    "predict rate": {"predict_rate": 0.2},
    "per unit": {"selector": {"name": "unit"}, "per": "unit"},
    "group": {"selector": {"name": "unit"}, "corruptor": {"name": "mixed", "per": "group"}},
    "fate per unit": {
        "selector": {"name": "ngram"},
        "corruptor": {"name": "mixed", "per": "unit"},
    },
}
for selector in SELECTORS.builtin:
    options = TYPES if selector in ("typed", "group") else {}
    POLICIES[f"selector {selector}"] = {"selector": {"name": selector, **options}}


def encode(sizes: Sequence[int]) -> Encoding:
    """Units of the sizes given, with types 0, 1, 2 in turn."""
    unit_ids: list[int] = []
    unit = 0
    for size in sizes:
        unit_ids += [unit] * size or [NOT_MASKABLE]
        unit += size > 0
    units = np.array(unit_ids, np.int32)
    ids = np.where(units >= 0, 7 + units, 6).astype(np.int32)
    return Encoding(
        ids, units, np.zeros_like(units), unit_types=np.arange(unit, dtype=np.int32) % 3
    )


def streams_of(starts: Sequence[int]) -> Streams:
    return Streams(np.array(starts, np.uint64))


@given(layouts=LAYOUTS)
def test_units_are_counted_through_the_batch(layouts: list[list[int]]) -> None:
    encodings = [encode(layout) for layout in layouts]
    batch = EncodingBatch(encodings)
    assert batch.num_units.tolist() == [encoding.num_units for encoding in encodings]
    assert batch.lengths.tolist() == [len(encoding) for encoding in encodings]
    maskable = batch.unit_ids >= 0
    assert np.unique(batch.unit_ids[maskable]).tolist() == list(range(batch.num_units.sum()))
    assert (np.diff(batch.unit_ids[maskable]) >= 0).all()
    owners = batch.encoding_of_unit[batch.unit_ids[maskable]]
    assert owners.tolist() == batch.encoding_of_token[maskable].tolist()
    for encoding, start, length in zip(encodings, batch.starts, batch.lengths, strict=True):
        own = slice(start, start + length)
        assert batch.ids[own].tolist() == encoding.ids.tolist()
        assert batch.position_ids[own].tolist() == list(range(length))
        assert (batch.unit_ids[own] >= 0).tolist() == (encoding.unit_ids >= 0).tolist()


@pytest.fixture(scope="module")
def build_policy(typed_words: Domain) -> Callable[[str], MaskingPolicy]:
    def build(name: str) -> MaskingPolicy:
        policy = MaskingPolicy.from_settings({"rate": 0.4, **POLICIES[name]}, where="policy")
        policy.fit(typed_words, [np.arange(7, 33, dtype=np.uint8)])
        return policy

    return build


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=25)
@given(layouts=LAYOUTS, starts=st.lists(st.integers(0, 2**64 - 1), min_size=5, max_size=5))
def test_a_sequence_is_hidden_alike_alone_and_in_a_batch(
    words: Domain,
    build_policy: Callable[[str], MaskingPolicy],
    name: str,
    layouts: list[list[int]],
    starts: list[int],
) -> None:
    policy = build_policy(name)
    encodings = [encode(layout) for layout in layouts]
    options: dict[str, Any] = {"vocabulary": words.vocabulary, "token_range": (7, 33)}
    batch = EncodingBatch(encodings)
    together = policy.apply_to_batch(batch, streams=streams_of(starts[: len(batch)]), **options)
    alone = [
        policy.apply_to_batch(EncodingBatch([encoding]), streams=streams_of([start]), **options)
        for encoding, start in zip(encodings, starts, strict=False)
    ]
    assert together.ids.tolist() == [token for masked in alone for token in masked.ids]
    positions = [m.positions + start for m, start in zip(alone, batch.starts, strict=True)]
    assert together.positions.tolist() == np.concatenate(positions).tolist()
    assert together.counts == sum((masked.counts for masked in alone[1:]), start=alone[0].counts)
    # The same positions belong together, and no group has any of two sequences.
    owners = batch.encoding_of_token[together.positions]
    groups = np.concatenate([masked.groups for masked in alone])
    pairs = set(zip(owners.tolist(), groups.tolist(), strict=True))
    assert len(set(together.groups.tolist())) == len(pairs)
    assert (np.diff(owners[np.argsort(together.groups, kind="stable")]) >= 0).all()


@pytest.mark.parametrize(
    "objective",
    [MaskedLanguageModelling, PseudoMaskedLanguageModelling, ReplacedTokenDetection],
    ids=lambda objective: objective.name,
)
@settings(max_examples=25)
@given(texts=st.lists(st.text("abc .", max_size=12), min_size=1, max_size=4))
def test_rows_made_at_once_are_those_made_one_by_one(
    words: Domain, objective: Callable[..., BatchObjective], texts: list[str]
) -> None:
    made = objective(words, {"rate": 0.5})
    encodings = [words.parse(text) for text in texts]
    starts = list(range(len(texts)))
    together = pack([made.rows_of_batch(EncodingBatch(encodings), streams_of(starts))])
    single = pack(
        [
            made.rows_of_batch(EncodingBatch([encoding]), streams_of([start]))
            for encoding, start in zip(encodings, starts, strict=True)
        ]
    )
    for name in ("ids", "position_ids", "segment_ids", "cu_seqlens"):
        assert getattr(together, name).tolist() == getattr(single, name).tolist()
    for name in ("step", "reach", "group") if together.visibility else ():
        assert getattr(together.visibility, name).tolist() == (
            getattr(single.visibility, name).tolist()
        )
    for name in together.targets:
        left, right = together.targets[name], single.targets[name]
        assert sorted(zip(left.rows.tolist(), left.labels.tolist(), strict=True)) == (
            sorted(zip(right.rows.tolist(), right.labels.tolist(), strict=True))
        )
        assert left.masking == right.masking


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_as_many_candidates_are_drawn_as_asked_for(sizes: list[int], data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 12), min_size=len(sizes), max_size=len(sizes)))
    sequences = np.repeat(np.arange(len(sizes)), sizes)
    drawn = draw(sequences, np.array(numbers), streams_of(range(len(sizes))))
    assert np.bincount(sequences[drawn], minlength=len(sizes)).tolist() == (
        np.minimum(sizes, numbers).tolist()
    )
    places = random_places(sequences, streams_of(range(len(sizes))))
    for sequence, size in enumerate(sizes):
        assert sorted(places[sequences == sequence].tolist()) == list(range(size))


def test_every_order_is_equally_likely(chi_square_p: Callable[..., float]) -> None:
    """Three candidates of each of 6,000 sequences have six orders."""
    sequences = np.repeat(np.arange(6_000), 3)
    places = random_places(sequences, streams_of(range(6_000))).reshape(-1, 3)
    orders = np.unique(places, axis=0, return_counts=True)[1]
    assert chi_square_p(orders, np.full(6, 1_000)) > 1e-3
