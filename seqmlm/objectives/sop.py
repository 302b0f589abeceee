"""Sentence-order prediction: do two segments stand in their order?"""

from __future__ import annotations

import numpy as np

from seqmlm.data.corpus import Corpus
from seqmlm.objectives.pair import SPECIAL_TOKENS, LabelledPair, PairObjective, draw_split, sides


class SentenceOrderPrediction(PairObjective):
    """The second objective of ALBERT (arXiv 1909.11942): half of the pairs are swapped.

    Both sides are consecutive segments of one document. Unlike the released code of ALBERT, which
    labels pairs of two documents as swapped where a document has a single segment, such a record
    makes no pair.

    Segments are what the domain parts. Where a heading is a segment of its own, as in text, a side
    that ends with one hints at the order (a rule on it is right for 55 % of WikiText's pairs):
    that nothing follows a heading is a part of what order means, and is left in.

    Args:
        domain: gives documents, segments and special tokens.
    """

    name = "sop"

    def pair(
        self, corpus: Corpus, record: int, generator: np.random.Generator
    ) -> LabelledPair | None:
        """See :meth:`PairObjective.pair`; label 1 is swapped."""
        segments = corpus.segments(record, within=self.within)
        if len(segments) < 2:
            return None
        split = draw_split(segments, generator)
        first, second = sides(segments, split, room=corpus.max_length - SPECIAL_TOKENS)
        if generator.random() < 0.5:
            return LabelledPair(first, second, label=0)
        return LabelledPair(second, first, label=1)
