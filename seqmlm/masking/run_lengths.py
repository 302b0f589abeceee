"""How long the runs of units are: shares that hold after every cut and at any budget."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from seqmlm.randomness import Streams

Integers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]

_KEY_BITS = 40


def weights_before_cuts(
    shares: Weights, units: Integers, sequences: Integers, sizes: Integers
) -> Weights:
    """Return how often to draw each length, so that the pieces have the shares asked for.

    A run that is laid anywhere on the ring of a sequence's units falls into pieces where the ring
    is broken into stretches. Counting its places says how many pieces of each length to expect, and
    runs of that length are drawn so much less often, from the longest on. Where the pieces alone
    are more than the share, none is drawn. Lengths for which no stretch has room count as the
    longest that fits.

    Args:
        shares: float64 ``[lengths]``, asked for among the pieces of 1, 2, 3, ... units.
        units: int64 ``[sequences]``, of each sequence.
        sequences: int64 ``[stretches]``, the sequence of each.
        sizes: int64 ``[stretches]``, units of each.

    Returns:
        float64 ``[sequences, lengths]``, in proportion to the chances of 1, 2, 3, ... units; all 0
        for a sequence without units. No more lengths than fit into the largest stretch.
    """
    longest = min(len(shares), int(sizes.max(initial=1)))
    number, size = _of_at_least(sequences, sizes, len(units), longest)
    larger, equal = number[1:], number[:-1] - number[1:]
    tails = np.cumsum(shares[::-1])[::-1, None]
    asked = np.where(larger > 0, shares[:longest, None], (equal > 0) * tails[:longest])
    lengths = np.arange(1, longest + 1)[:, None]
    # A run as long as its sequence closes the ring: it is whole wherever it begins.
    is_ring = units == lengths
    places = np.where(is_ring, lengths, size[:-1] - (lengths - 1) * number[:-1])
    weights = np.zeros_like(asked)
    drawn, reach = np.zeros(len(units)), np.zeros(len(units))
    for row in range(longest - 1, -1, -1):
        # A longer run has two ends in a larger stretch. One of this size it covers from as many
        # places as it is longer, and one more: reach adds them up.
        pieces = 2 * larger[row] * drawn + equal[row] * reach
        np.divide(asked[row] - pieces, places[row], out=weights[row], where=asked[row] > pieces)
        cut = np.where(is_ring[row], 0, weights[row])
        reach += drawn + 2 * cut
        drawn += cut
    return np.ascontiguousarray(weights.T)


def draw_lengths(
    weights: Weights, numbers: Integers, units: Integers, streams: Streams
) -> tuple[Integers, Integers]:
    """Draw the lengths of the runs of every sequence, for an expected sum of its number of units.

    Think of runs of random lengths one after the other, without an end, and of a window of
    ``number`` units laid over them anywhere: the runs that begin in it are taken. Each of its units
    is as likely as any other to begin a run, whose length is a fresh draw: the expected sum is
    exact, and so is the expected number of runs of each length. Stopping at the budget instead,
    with the last run shortened, refused or taken by chance, makes long runs rarer.

    A sum differs from its number by less than the longest run. Where the sequence has no room for
    that, the runs add up to the number exactly, the last one shortened.

    Args:
        weights: float64 ``[sequences, lengths]``, in proportion to the chances of 1, 2, 3, ...
            units.
        numbers: int64 ``[sequences]``, at most ``units``.
        units: int64 ``[sequences]``, of each sequence.
        streams: of the sequences.

    Returns:
        The sequence of each run, not decreasing, and its length; int64 ``[runs]``.
    """
    every, ones = np.arange(len(units)), np.ones(len(units), np.int64)
    cumulative = np.cumsum(weights, axis=1)
    longest = 1 + np.count_nonzero(cumulative < cumulative[:, -1:], axis=1)
    has_room = numbers + longest - 1 <= units
    # The first run of the window begins after k units as often as runs are longer than k.
    tails = cumulative[:, -1:] - (cumulative - weights)
    offset = _drawn(np.cumsum(tails, axis=1), every, streams.uniform(ones))
    offset[~has_room] = 0
    sequences = np.repeat(every, numbers)  # enough, even if all lengths are 1
    lengths = 1 + _drawn(cumulative, sequences, streams.uniform(numbers))
    starts = offset[sequences] + before_in_sequence(lengths, numbers)
    left = numbers[sequences] - starts
    lengths = np.where(has_room[sequences], lengths, np.minimum(lengths, left))
    return sequences[left > 0], lengths[left > 0]


def before_in_sequence(values: Integers, numbers: Integers) -> Integers:
    """Return the sum of the values before each one in its sequence, int64 ``[values]``.

    Args:
        values: int64 ``[values]``, those of the first sequence first.
        numbers: int64 ``[sequences]``, values of each.
    """
    before = np.cumsum(values) - values
    first = np.cumsum(numbers) - numbers
    in_sequence: Integers = before - np.repeat(np.append(before, 0)[first], numbers)
    return in_sequence


def _of_at_least(
    sequences: Integers, sizes: Integers, num_sequences: int, longest: int
) -> tuple[Weights, Weights]:
    """Number of stretches of 1, 2, ... longest + 1 units or more, and their units.

    Both ``[longest + 1, sequences]``; those of the last row are 0 where ``longest`` counts all.
    """
    columns = np.minimum(sizes, longest) * num_sequences + sequences
    num_columns = (longest + 2) * num_sequences
    by_size = np.stack(
        [
            np.bincount(columns, minlength=num_columns),
            np.bincount(columns, sizes, minlength=num_columns),
        ]
    ).reshape(2, longest + 2, num_sequences)
    number, size = np.cumsum(by_size[:, ::-1], axis=1)[:, -2::-1]
    return number, size


def _drawn(cumulative: Weights, sequences: Integers, uniform: npt.NDArray[np.float64]) -> Integers:
    """For each random number a column of the table of its sequence, by its cumulative chances.

    In whole numbers, the sequence above, so that one search serves all and rounding can neither
    reach the next sequence nor a column of no chance.
    """
    table = cumulative / np.maximum(cumulative[:, -1:], 1e-300)
    bounds = (table * 2**_KEY_BITS).astype(np.int64)
    bounds += np.arange(len(bounds))[:, None] << _KEY_BITS
    keys = (sequences << _KEY_BITS) + (uniform * 2**_KEY_BITS).astype(np.int64)
    columns: Integers = np.searchsorted(bounds.ravel(), keys, side="right")
    columns -= sequences * bounds.shape[1]
    return columns
