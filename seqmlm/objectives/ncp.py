"""Next-code-fragment prediction: does the second fragment follow the first?"""

from __future__ import annotations

from typing import ClassVar

from seqmlm.data.corpus import Scope
from seqmlm.objectives.nsp import NextSentencePrediction


class NextCodeFragmentPrediction(NextSentencePrediction):
    """The pair objective of CugLM (arXiv 2012.14631): fragments of one record, such as a file.

    Like next-sentence prediction, but a true pair never leaves its record and a foreign side may
    come from any other record: a function's next lines against those of another function, also of
    the same document. So it needs no documents, and suits every domain with segments.

    Args:
        domain: gives segments, the lines of code, and special tokens.
    """

    name = "ncp"
    within: ClassVar[Scope] = "record"
