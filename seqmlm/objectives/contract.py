"""What the rows of every objective promise; :func:`seqmlm.testing.check_objective` says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import torch

from seqmlm.contract import reported
from seqmlm.data.packing import pack
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.objectives.contract_losses import (
    check_causality,
    check_loss,
    check_mask_rate,
    places_of,
    prepares,
)
from seqmlm.objectives.rows import BatchObjective, Objective, Row, Targets
from seqmlm.randomness import Streams
from seqmlm.vocabulary import AllowedPerTarget, AllowedTokens
from seqmlm_kernels.visibility import visible_pairs

NUM_DRAWS = 24
"""Generators that the rows of each text are made with."""

FEWEST_TO_DIFFER = 8
"""Maskable tokens from which on two generators must not always hide the same ones."""

DTYPES = {
    "ids": np.int32,
    "position_ids": np.int32,
    "segment_ids": np.int32,
    "role_ids": np.int32,
    "positions": np.int32,
    "labels": np.int32,
    "weights": np.float32,
    "values": np.float32,
    "draws": np.float64,
}


def check_objective(objective: Objective, domain: Domain, texts: Sequence[str]) -> None:
    """Hold an objective to its contract on a real, tiny model.

    What is checked follows from what the objective declares. One that predicts tokens must have
    the true ids as labels: of the place itself, or of the next place if it is causal; what is
    predicted must not be seen. The others may ask what they like of any token.

    Args:
        objective: built for ``domain``.
        domain: gives encodings.
        texts: valid input of :meth:`Domain.parse`, at least two, and in all some 30 tokens that
            may be masked.

    Raises:
        AssertionError: a promise of :class:`seqmlm.objectives.rows.Objective` is broken, or its
            code raised something itself.
    """
    encodings = [domain.parse(text) for text in texts]
    with reported(objective.name, "mask_token_rate"):
        assert 0 <= objective.mask_token_rate <= 1, "it must be in [0, 1]"
    rows: list[Row] = []
    drawn: list[tuple[Encoding, Row]] = []
    for encoding in encodings:
        with reported(objective.name, "rows()"):
            _check_repeatable(objective, encoding)
            in_the_middle, at_the_ends = _rows_of(objective, encoding)
            for row in [*in_the_middle, *at_the_ends]:
                _check_row(objective, domain, row)
                _check_truth(objective, domain, encoding, row)
            _check_randomness(objective, encoding, in_the_middle)
        rows += at_the_ends
        drawn += [(encoding, row) for row in in_the_middle]
    with reported(objective.name, "rows()"):
        assert rows, "there are no rows"
        lacks_response = all(encoding.response_start is not None for encoding in encodings)
        _check_terms(objective, [row for _, row in drawn], lacks_response=lacks_response)
        if isinstance(objective, BatchObjective):
            _check_batch(objective, encodings)
    with reported(objective.name, "mask_token_rate"):
        check_mask_rate(objective, domain, drawn)
    with reported(objective.name, "loss()"):
        check_loss(objective, domain, rows)
    if objective.causal_direction is not None:
        with reported(objective.name, "causal_direction"):
            check_causality(objective, domain, rows)


def _rows_of(objective: Objective, encoding: Encoding) -> tuple[list[Row], list[Row]]:
    """Rows by many generators in the middle of the run, and one each of its start and end."""
    middle, last = objective.at(0.5), objective.at(1.0)
    assert middle.name == last.name == objective.name, "at() must keep the name"
    drawn = [
        row
        for seed in range(NUM_DRAWS)
        for row in middle.rows(encoding, np.random.default_rng(seed))
    ]
    return drawn, [*objective.rows(encoding, _first()), *last.rows(encoding, _first())]


def _check_randomness(objective: Objective, encoding: Encoding, drawn: Sequence[Row]) -> None:
    """Where a share of many tokens is hidden, other generators hide other tokens."""
    num_maskable = int(np.count_nonzero(encoding.unit_ids >= 0))
    if not drawn or num_maskable < FEWEST_TO_DIFFER or not 0 < objective.mask_token_rate < 1:
        return
    assert any(_difference(drawn[0], row) for row in drawn[1:]), (
        f"{NUM_DRAWS} generators gave the same row: it does not depend on the generator"
    )


def _first() -> np.random.Generator:
    return np.random.default_rng(0)


def _check_repeatable(objective: Objective, encoding: Encoding) -> None:
    before = [np.copy(getattr(encoding, field.name)) for field in fields(Encoding)]
    made, again = (objective.rows(encoding, _first()) for _ in range(2))
    for field, value in zip(fields(Encoding), before, strict=True):
        assert np.array_equal(value, np.asarray(getattr(encoding, field.name))), (
            f"{field.name} of the encoding was changed"
        )
    assert len(made) == len(again), "the same generator state gave another number of rows"
    for left, right in zip(made, again, strict=True):
        different = _difference(left, right)
        assert not different, f"the same generator state gave other {different}"


def _difference(left: Row, right: Row) -> str:
    """The name of what differs in two rows; empty if they are the same."""
    for name in ("ids", "position_ids", "segment_ids", "role_ids", "lengths"):
        if not np.array_equal(_array(left, name), _array(right, name)):
            return name
    if not np.array_equal(visible_in(left), visible_in(right)):
        return "visibility"
    if left.targets.keys() != right.targets.keys():
        return "targets"
    for key, targets in left.targets.items():
        for name in ("positions", "labels", "weights", "values", "draws"):
            if not np.array_equal(
                _array(targets, name), _array(right.targets[key], name), equal_nan=True
            ):
                return f"targets[{key!r}].{name}"
    return ""


def _array(owner: Row | Targets, name: str) -> npt.NDArray[np.generic]:
    value = getattr(owner, name)
    return np.zeros(0) if value is None else np.asarray(value)


def visible_in(row: Row) -> npt.NDArray[np.bool_]:
    """Return who sees whom, bool ``[n, n]``, queries before keys."""
    if row.visibility is None:
        return np.ones((len(row.ids), len(row.ids)), np.bool_)
    columns = (row.visibility.step, row.visibility.reach, row.visibility.group)
    visible: npt.NDArray[np.bool_] = visible_pairs(*map(torch.from_numpy, columns)).numpy()
    return visible


def _check_row(objective: Objective, domain: Domain, row: Row) -> None:
    """Types, lengths and ranges: what holds for a row of any objective."""
    for name in ("ids", "position_ids", "segment_ids", "role_ids"):
        if getattr(row, name) is not None:
            _check_array(row, name, len(row.ids))
    vocabulary = domain.vocabulary
    assert ((row.ids >= 0) & (row.ids < len(vocabulary))).all(), "an id is beyond the vocabulary"
    assert (row.ids != vocabulary.special.padding).all(), "a row holds padding tokens"
    assert (row.position_ids >= 0).all(), "a position id is negative"
    assert (row.segment_ids >= 0).all(), "a segment id is negative"
    assert visible_in(row).diagonal().all(), "a token does not see itself"
    for key, targets in row.targets.items():
        with _naming(key):
            _check_targets(targets, len(row.ids))
    unknown = [
        key
        for key in row.targets
        if key not in objective.terms and not key.startswith(f"{objective.name}.")
    ]
    assert not unknown, (
        f"targets {unknown[0]!r}: not among its terms, {', '.join(objective.terms)}; what no term "
        f"is a mean of has a key that begins with '{objective.name}.'"
    )


@contextmanager
def _naming(key: str) -> Iterator[None]:
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"targets {key!r}: {error}") from error


def _check_array(owner: Row | Targets, name: str, length: int) -> None:
    array = getattr(owner, name)
    expected = np.dtype(DTYPES[name])
    assert array.dtype == expected, f"{name} must be {expected}, not {array.dtype}"
    assert array.shape == (length,), f"{name} has shape {array.shape}, not ({length},)"


def _check_targets(targets: Targets, num_tokens: int) -> None:
    positions = targets.positions
    for name in ("positions", "labels", "weights", "values", "draws"):
        if getattr(targets, name) is not None:
            _check_array(targets, name, len(positions))
    assert ((positions >= 0) & (positions < num_tokens)).all(), "a target lies outside the row"
    assert len(np.unique(positions)) == len(positions), "a position is a target twice"
    if targets.weights is not None:
        assert np.isfinite(targets.weights).all(), "a weight is not finite"
        assert (targets.weights >= 0).all(), "a weight is negative"
    if targets.draws is not None:
        assert ((targets.draws >= 0) & (targets.draws < 1)).all(), "a draw is not in [0, 1)"
    if targets.allowed is not None:
        assert _allows(targets.allowed, targets.labels), "a label is not among the allowed tokens"


def _allows(allowed: AllowedTokens | AllowedPerTarget, labels: npt.NDArray[np.int32]) -> bool:
    if isinstance(allowed, AllowedTokens):
        return bool(allowed.mask()[labels].all())
    masks = np.stack([chosen.mask() for chosen in allowed.sets])
    return bool(masks[allowed.index, labels].all())


def _check_truth(objective: Objective, domain: Domain, encoding: Encoding, row: Row) -> None:
    """Labels of an objective that predicts tokens are the true ids at the places it predicts."""
    if not objective.predicts_tokens:
        return
    special = domain.vocabulary.special
    true_places = places_of(encoding)
    maskable = encoding.unit_ids >= 0
    if prepares(objective):  # it may choose another part of the record to be masked
        maskable = np.ones(len(encoding), np.bool_)
    places_of_row = row.position_ids[:, None] == true_places
    untouched = ~(places_of_row & maskable).any(axis=1)
    kept = (places_of_row & (row.ids[:, None] == encoding.ids)).any(axis=1)
    assert kept[untouched].all(), (
        "a token that may not be masked was changed, or its position id was"
    )
    if objective.name not in row.targets:
        return
    targets = row.targets[objective.name]
    ahead = {None: 0, "left_to_right": 1, "right_to_left": -1}[objective.causal_direction]
    may_be_predicted = maskable.copy()
    if ahead:
        may_be_predicted |= np.isin(encoding.ids, (special.start, special.end))
    there = (row.position_ids[targets.positions] + ahead)[:, None] == true_places
    there &= may_be_predicted
    place = "at the next place" if ahead else "at its place"
    assert there.any(axis=1).all(), f"a target has no token {place} that may be predicted"
    is_true = (there & (targets.labels[:, None] == encoding.ids)).any(axis=1)
    assert is_true.all(), f"a label is not the true id {place}"
    if not ahead:
        _check_unseen(row, targets)


def _check_unseen(row: Row, targets: Targets) -> None:
    """A target that is hidden itself does not see its true token elsewhere in the row."""
    hidden = row.ids[targets.positions] != targets.labels
    positions, labels = targets.positions[hidden], targets.labels[hidden]
    same_place = row.position_ids[positions][:, None] == row.position_ids
    copies = same_place & (labels[:, None] == row.ids) & visible_in(row)[positions]
    assert not copies.any(), "a target sees the token that it is to predict"


def _check_terms(objective: Objective, rows: Sequence[Row], *, lacks_response: bool) -> None:
    """Every mean of the loss has targets, unless :meth:`Objective.prepare` is to give them.

    Where all that is to be predicted is a response that is not there, there may be none.
    """
    if prepares(objective):
        return
    for term in objective.terms:
        assert any(term in row.targets for row in rows), (
            f"no row has targets {term!r}, one of its terms"
        )
    assert lacks_response or objective.count(pack(rows)) > 0, "no row has a token to predict"


def _check_batch(objective: BatchObjective, encodings: Sequence[Encoding]) -> None:
    """Rows that are made at once are what they are alone."""
    keys = np.arange(len(encodings), dtype=np.uint64)
    together = pack([objective.rows_of_batch(EncodingBatch(encodings), Streams(keys))])
    alone = pack(
        [
            objective.rows_of_batch(EncodingBatch([encoding]), Streams(keys[number : number + 1]))
            for number, encoding in enumerate(encodings)
        ]
    )
    different = [
        name
        for name in ("ids", "position_ids", "segment_ids", "cu_seqlens")
        if not torch.equal(getattr(together, name), getattr(alone, name))
    ]
    for key in objective.terms:
        left, right = together.targets_for(key), alone.targets_for(key)
        orders = left.rows.argsort(), right.rows.argsort()  # targets may come in any order
        for name in ("rows", "labels", "weights", "draws", "values"):
            a, b = getattr(left, name), getattr(right, name)
            is_same = a is b if a is None or b is None else torch.equal(a[orders[0]], b[orders[1]])
            different += [] if is_same else [f"targets[{key!r}].{name}"]
    assert not different, (
        f"what else a batch holds changes the row of a sample: {different[0]} differs"
    )
