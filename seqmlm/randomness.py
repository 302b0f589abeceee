"""Random streams that are a pure function of their key.

What a sample looks like must not depend on worker count, rank count, batch mates or resume.
So nothing here carries state from one sample to the next: every use names its own stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]

_GOLDEN_RATIO = 0x9E3779B97F4A7C15


class Purpose(IntEnum):
    """What a stream is for; streams of different purposes are independent."""

    SPLIT = 0
    ORDER = 1
    WINDOW = 2
    OBJECTIVE = 3
    EVALUATION = 4
    MODULES = 5
    SCHEDULE = 6
    SAMPLING = 7


def stream(
    seed: int, purpose: Purpose, *, epoch: int = 0, sample: int = 0, index: int = 0
) -> np.random.Generator:
    """Return the generator of one (seed, purpose, epoch, sample, index).

    Philox is counter-based: the arguments are its key and the upper three words of its 256-bit
    counter, the lowest word counts the draws. About 15 microseconds.

    Args:
        seed: of the run, 0 or more.
        purpose: what is drawn.
        epoch: pass over the data, from 0.
        sample: record number in the store.
        index: which of several users of the same sample, for example the objective's position.
    """
    return np.random.Generator(
        np.random.Philox(key=[seed, int(purpose)], counter=[0, index, sample, epoch])
    )


class Streams:
    """One stream of uniform numbers for each of several samples, all drawn from at once.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): number ``j`` of a stream is a hash of its
    start plus ``j`` times a constant, so a few array operations give those of a whole batch, where
    a generator for each sample takes some 7 microseconds. What a sample draws depends neither on
    the others nor on their order.

    Args:
        starts: uint64 ``[samples]``, where each stream begins.
    """

    def __init__(self, starts: Words) -> None:
        self._states = starts.copy()

    @classmethod
    def of(
        cls,
        seed: int,
        purpose: Purpose,
        *,
        epoch: int,
        samples: npt.NDArray[np.int64],
        index: int = 0,
    ) -> Streams:
        """Return the streams of some samples; the arguments are those of :func:`stream`.

        They share nothing with what :func:`stream` gives.
        """
        shared = _start(seed, int(purpose), epoch, index)
        return cls(_next_start(shared, samples))

    @classmethod
    def of_one(cls, generator: np.random.Generator) -> Streams:
        """Return the stream of one sample, begun where ``generator`` says."""
        return cls(generator.integers(2**64, size=1, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self._states)

    def uniform(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Draw the next numbers of every stream, in [0, 1).

        Args:
            counts: int64 ``[samples]``, how many each stream gives; the same call for other
                samples must not change those of this one.

        Returns:
            float64 ``[counts.sum()]``, those of the first sample first.
        """
        first = np.cumsum(counts) - counts
        words = np.repeat(self._states - _steps(first), counts)
        words += _steps(np.arange(1, len(words) + 1))
        self._states += _steps(counts)
        return (_hashed(words) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def generators(self) -> Iterator[np.random.Generator]:
        """Yield a generator for each sample, for what must be drawn one after the other.

        One object, moved from stream to stream: use it before the next is asked for.
        """
        philox = np.random.Philox(key=0)
        start = philox.state
        generator = np.random.Generator(philox)
        for key in self._states:
            start["state"]["key"][0] = key
            philox.state = start
            yield generator


@lru_cache(maxsize=64)  # the same for all batches of an epoch
def _start(*words: int) -> Words:
    """What streams that share these words begin with, uint64 ``[1]``; not to be changed."""
    start = np.zeros(1, np.uint64)
    for word in words:
        start = _next_start(start, word)
    return start


def _next_start(start: Words, words: int | npt.NDArray[np.int64]) -> Words:
    return _hashed((start + np.uint64(_GOLDEN_RATIO)) ^ np.asarray(words, np.uint64))


def _steps(numbers: npt.NDArray[np.int64]) -> Words:
    return numbers.astype(np.uint64) * np.uint64(_GOLDEN_RATIO)


def _hashed(words: Words) -> Words:
    """SplitMix64's finaliser, a bijection, in place; arithmetic of arrays is modulo 2**64."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words
