"""Random streams that are a pure function of their key.

What a sample looks like must not depend on worker count, rank count, batch mates or resume.
So nothing here carries state from one sample to the next: every use names its own stream.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


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
