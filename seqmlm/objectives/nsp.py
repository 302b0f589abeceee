"""Next-sentence prediction: does the second segment follow the first?"""

from __future__ import annotations

import numpy as np

from seqmlm.data.corpus import Corpus
from seqmlm.errors import ConfigError
from seqmlm.objectives.pair import SPECIAL_TOKENS, LabelledPair, PairObjective, draw_split, sides


class NextSentencePrediction(PairObjective):
    """The second objective of BERT (arXiv 1810.04805): half of the second sides are foreign.

    A foreign side is the second side of a pair of another document, drawn uniformly over the
    records, so it looks like any second side; only a record of the same corpus is ever drawn.
    Both candidates begin with a segment, and both are cut to one length before a coin chooses
    between them. The length is drawn between half of what the shorter one has and one token less
    than it has, wherever segments end: a side that ends with a whole segment would give the
    answer away, as the length of the row does in part in BERT's data.

    Args:
        domain: gives documents, segments and special tokens.
    """

    name = "nsp"

    def check(self, corpus: Corpus) -> None:
        """See :meth:`PairObjective.check`; needs a second :attr:`within` to draw from."""
        super().check(corpus)
        divisible = corpus.divisible(within=self.within)
        first = int(divisible[0])
        if corpus.draw_other(first, np.random.default_rng(0), within=self.within) is None:
            settings = self._domain.settings_for_documents if self.within == "document" else ""
            hint = f" ({settings} finds several in one file)" if settings else ""
            raise ConfigError(
                f"objectives: {self.name} draws half of its second segments from another "
                f"{self.within}, and all {len(divisible):,} training records with two segments "
                f"are of one. Give the data as several {self.within}s{hint}, or use sop, which "
                "needs no other."
            )

    def pair(
        self, corpus: Corpus, record: int, generator: np.random.Generator
    ) -> LabelledPair | None:
        """See :meth:`PairObjective.pair`; label 1 is foreign."""
        segments = corpus.segments(record, within=self.within)
        other = corpus.draw_other(record, generator, within=self.within)
        if len(segments) < 2 or other is None:
            return None
        room = corpus.max_length - SPECIAL_TOKENS
        split = draw_split(segments, generator)
        first, _ = sides(segments, split, room=room)
        following = segments.from_segment(split)
        elsewhere = corpus.segments(other, within=self.within)
        foreign = elsewhere.from_segment(draw_split(elsewhere, generator))
        longest = min(len(following), len(foreign), room - len(first))
        length = int(generator.integers((longest + 1) // 2, max(longest, 2)))
        if generator.random() < 0.5:
            return LabelledPair(first, following[:length], label=0)
        return LabelledPair(first, foreign[:length], label=1)
