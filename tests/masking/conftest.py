"""What the tests of masking share: words that have types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding


@pytest.fixture(scope="session")
def typed_words(words: Domain) -> Domain:
    """The domain of words, which are in turn of two of its three types."""

    class TypedWords(type(words)):  # type: ignore[misc]
        unit_types = ("even", "odd", "neither")

        def assemble(self, *args: Any, **options: Any) -> Encoding:
            encoding: Encoding = super().assemble(*args, **options)
            types = np.arange(encoding.num_units, dtype=np.int32) % 2
            return replace(encoding, unit_types=types)

    domain: Domain = TypedWords()
    return domain
