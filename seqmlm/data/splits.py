"""Which records are held out. Similar records stay on one side."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.randomness import Purpose, stream


@dataclass(frozen=True)
class Split:
    """Records to train on and records held out.

    Args:
        train: int64, record numbers, increasing.
        validation: int64, record numbers, increasing; disjoint from ``train``.
        groups: int64 ``[records]``, the similarity group of every record.
        num_too_close: held-out records that are neither trained on nor evaluated, because they
            have a close neighbour in ``train``: groups have borders, and across them some
            members are alike.
        leakage: share of ``validation`` with a close neighbour in ``train``, in [0, 1].
    """

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    num_too_close: int
    leakage: float

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change with the records on either side."""
        digest = hashlib.sha256(self.train.tobytes())
        digest.update(self.validation.tobytes())
        return digest.hexdigest()[:16]

    @property
    def num_groups(self) -> int:
        """Number of similarity groups in the corpus."""
        return len(np.unique(self.groups))


def split_records(
    domain: Domain,
    store: TokenStore,
    *,
    method: Literal["cluster", "random"],
    sampling: Literal["record", "cluster"],
    validation_fraction: float,
    validation_records: int,
    seed: int,
) -> Split:
    """Hold out part of a store; a pure function of its arguments.

    Where the data itself holds records out (:meth:`Domain.held_out`), all of those are, and
    nothing else.

    Args:
        domain: says which records are similar.
        store: the corpus.
        method: ``cluster`` holds out whole similarity groups, less the records that still have a
            close neighbour in training; ``random`` holds out single records, which usually
            leaks.
        sampling: with ``cluster`` the fraction counts groups and one record of each held-out
            group, the longest, is evaluated, as training draws one of each.
        validation_fraction: share held out, in [0, 1).
        validation_records: most records that are evaluated; the rest stays unused.
        seed: chooses the groups.

    Raises:
        ConfigError: there are not enough groups to hold any out, or all of them are too close
            to the rest.
    """
    usable = np.flatnonzero(store.lengths > 0)
    groups = domain.similarity_groups(store)
    given = domain.held_out(store)
    if given is not None:
        train, validation = usable[~given[usable]], usable[given[usable]]
        is_close = domain.close_neighbours(store, validation, train)
        return Split(train, validation, groups, 0, leakage=float(is_close.mean()))
    if validation_fraction == 0:
        return Split(usable, np.empty(0, np.int64), groups, num_too_close=0, leakage=0.0)
    generator = stream(seed, Purpose.SPLIT)
    units = groups if method == "cluster" else np.arange(len(store))
    held_out = _choose_units(units[usable], validation_fraction, sampling, generator)
    is_held_out = np.isin(units, held_out)
    is_held_out[store.lengths == 0] = False
    train = usable[~is_held_out[usable]]
    validation = np.flatnonzero(is_held_out)
    if not len(validation) or not len(train):
        raise ConfigError(
            f"data.validation_fraction = {validation_fraction}: the {len(usable)} records form "
            f"{len(np.unique(units[usable]))} similarity group(s), too few to hold any out. "
            "Give more data, or train without validation: data.validation_fraction=0"
        )
    if sampling == "cluster":
        validation = _longest_of_each(groups, store.lengths, validation)
    if len(validation) > validation_records:
        validation = np.sort(generator.choice(validation, validation_records, replace=False))
    is_close = domain.close_neighbours(store, validation, train)
    if method == "random":
        return Split(train, validation, groups, 0, leakage=float(is_close.mean()))
    if is_close.all():
        raise ConfigError(
            f"data.split = 'cluster': each of the {len(validation)} held-out records has a close "
            "neighbour in the training data. Hold out more with data.validation_fraction, or set "
            "data.split = 'random' and read its leakage."
        )
    return Split(train, validation[~is_close], groups, int(is_close.sum()), leakage=0.0)


def _choose_units(
    units: npt.NDArray[np.int64],
    fraction: float,
    sampling: Literal["record", "cluster"],
    generator: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Units in random order until the fraction of records (or of units) is reached.

    A unit larger than the whole share is never held out: it would take most of the data with it.
    """
    names, sizes = np.unique(units, return_counts=True)
    share = fraction * len(units)
    order = generator.permutation(np.flatnonzero(sizes <= max(share, 1)))
    if sampling == "cluster":
        count = round(fraction * len(names))
    else:
        count = int(np.searchsorted(np.cumsum(sizes[order]), share, side="right"))
    held_out: npt.NDArray[np.int64] = names[order[: max(count, 1)]]
    return held_out


def _longest_of_each(
    groups: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    records: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    order = records[np.lexsort((records, -lengths[records], groups[records]))]
    first = np.diff(groups[order], prepend=-1) != 0
    return np.sort(order[first])
