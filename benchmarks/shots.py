"""Few-shot training sets: so many examples of each class."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

FULL = 0
"""Among the shots: all examples."""


def draw_shots(labels: Sequence[str], *, shots: int, seed: int) -> list[int]:
    """Return which examples are trained on: of each class so many, or all of them.

    Args:
        labels: of every example.
        shots: examples of each class, without replacement; all for :data:`FULL`.
        seed: of the draw.

    Returns:
        Their positions, class after class in order of the labels; ascending for :data:`FULL`.

    Raises:
        ValueError: a class has fewer examples.
    """
    if shots == FULL:
        return list(range(len(labels)))
    by_label: dict[str, list[int]] = defaultdict(list)
    for position, label in enumerate(labels):
        by_label[label].append(position)
    chooser = random.Random(seed)
    return [
        position
        for label in sorted(by_label)
        for position in chooser.sample(by_label[label], shots)
    ]
