"""The sequences that selectors and corruptors are held to their contracts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain, Record
from seqmlm.encoding import NOT_MASKABLE, Encoding, EncodingBatch


@dataclass(frozen=True)
class CheckedSequences:
    """Real sequences of a domain, and some with hardly anything to mask.

    Args:
        stored: tokens of each record.
        real: one for each record.
        bare: without a token, without a maskable one, and with a single one.
    """

    stored: Sequence[npt.NDArray[np.unsignedinteger[Any]]]
    real: Sequence[Encoding]
    bare: Sequence[Encoding]

    @classmethod
    def of(cls, domain: Domain, texts: Sequence[str]) -> CheckedSequences:
        """Read texts as a domain does; at least one must have a maskable token.

        Args:
            domain: has its vocabulary.
            texts: records as :meth:`Domain.read` yields their content.
        """
        records = [Record(f"r{i}", text, "test", i) for i, text in enumerate(texts, start=1)]
        block = domain.tokenize(records, ReadReport(read=len(records)))
        stored = np.split(block.tokens, np.cumsum(block.lengths)[:-1])
        real = [
            domain.assemble(
                tokens,
                max_length=len(tokens) + domain.special_tokens_per_sequence,
                generator=np.random.default_rng(number),
            )
            for number, tokens in enumerate(stored)
        ]
        longest = max(real, key=lambda encoding: encoding.num_units)
        maskable = np.flatnonzero(longest.unit_ids >= 0)
        assert len(maskable), "give texts with tokens that may be masked"
        nothing = np.zeros(0, np.int32)
        empty = Encoding(nothing, nothing, nothing, unit_types=nothing, declared_types=nothing)
        return cls(
            stored, real, [empty, _hiding(longest, maskable[:0]), _hiding(longest, maskable[:1])]
        )

    @property
    def all(self) -> EncodingBatch:
        """Bare and real ones in turn, so that bare ones stand at both ends and between."""
        first, second, third = self.bare
        return EncodingBatch([first, self.real[0], second, *self.real[1:], third, first])

    def repeated(self, times: int) -> EncodingBatch:
        """Those with maskable tokens, each as often in a row."""
        return EncodingBatch(
            [each for each in (*self.real, self.bare[-1]) if each.num_units for _ in range(times)]
        )


def _hiding(encoding: Encoding, places: npt.NDArray[np.int64]) -> Encoding:
    """An encoding of which no more than one token may be masked."""
    unit_ids = np.full_like(encoding.unit_ids, NOT_MASKABLE)
    unit_ids[places] = 0
    units = encoding.unit_ids[places]
    types, declared = encoding.unit_types, encoding.declared_types
    return replace(
        encoding,
        unit_ids=unit_ids,
        unit_types=None if types is None else types[units],
        declared_types=None if declared is None else declared[units],
    )
