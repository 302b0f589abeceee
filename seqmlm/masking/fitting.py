"""What a selector or corruptor may learn before the first batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from seqmlm.encoding import IntArray

if TYPE_CHECKING:
    from seqmlm.domain import Domain

STATISTICS_TOKENS = 2_000_000
"""Stored tokens, those of the first training records, from which statistics of pairs are taken."""


@runtime_checkable
class Fitted(Protocol):
    """A selector or corruptor that reads a file, or the training data, once before the run."""

    def fit(
        self, domain: Domain, sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]]
    ) -> None:
        """Prepare for :meth:`select` or :meth:`corrupt`; a pure function of the arguments.

        Args:
            domain: gives vocabulary and tokenizer.
            sequences: stored tokens of each training record, without special tokens; can be
                iterated any number of times, and costs nothing if it is not.

        Raises:
            ConfigError: the domain does not have what is needed.
            DataError: a file cannot be used.
        """
        ...


def maskable_tokens(
    domain: Domain,
    sequences: Iterable[npt.NDArray[np.unsignedinteger[Any]]],
    *,
    most_tokens: int = STATISTICS_TOKENS,
) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield ids and units of the maskable tokens of each record, uncut and without gaps.

    Args:
        domain: says which tokens are maskable.
        sequences: stored tokens.
        most_tokens: records are yielded until they hold as many stored tokens.

    Yields:
        int32 ``[n]`` twice; units are numbered from 0 within the record.
    """
    seen = 0
    for tokens in sequences:
        if seen >= most_tokens:
            return
        seen += len(tokens)
        encoding = domain.assemble(
            tokens, max_length=len(tokens) + domain.special_tokens_per_sequence
        )
        maskable = encoding.unit_ids >= 0
        yield encoding.ids[maskable], encoding.unit_ids[maskable]
