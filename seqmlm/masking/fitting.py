"""What a selector or corruptor may learn before the first batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from seqmlm.domain import Domain


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
