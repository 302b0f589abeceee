"""Units of the same type in the place of hidden ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.domain import Domain
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.masking.same_type import SameTypeUnits
from seqmlm.masking.similar import SimilarCorruptor
from seqmlm.masking.unit_table import Unit

ChiSquare = Callable[[npt.ArrayLike, npt.ArrayLike], float]
ANIMALS: list[tuple[Hashable, Unit]] = [
    ("animal", (5,)), ("animal", (6,)), ("animal", (7, 7)), ("animal", (8,)), ("food", (8,)),
    ("animal", (6,)), ("animal", (9,)),
]  # fmt: skip


@dataclass(frozen=True)
class ListedTypes:
    """Types as they are listed; no encoding is asked for."""

    listed: Sequence[tuple[Hashable, Unit]]

    def of(self, encoding: Encoding) -> Sequence[Hashable]:
        raise NotImplementedError

    def known(self, sequences: Iterable[object]) -> Iterator[tuple[Hashable, Unit]]:
        yield from self.listed


def test_every_other_unit_of_the_type_is_equally_likely(chi_square_p: ChiSquare) -> None:
    units = SameTypeUnits(ListedTypes(ANIMALS), [])
    uniform = np.random.default_rng(0).random(6_000)
    drawn = Counter(units.draw((6,), "animal", number) for number in uniform.tolist())
    assert drawn.keys() == {(5,), (8,), (9,)}, "not itself, and none of another length"
    assert chi_square_p(list(drawn.values()), [2_000] * 3) > 1e-3


@pytest.mark.parametrize(
    ("unit", "unit_type", "found"),
    [
        ((7, 7), "animal", None),
        ((8,), "food", None),
        ((8,), "plant", None),
        ((5,), "food", (8,)),
    ],
    ids=["alone in its length", "alone in its type", "unknown type", "unseen in the type"],
)
def test_a_unit_without_another_of_its_type_has_no_candidate(
    unit: Unit, unit_type: str, found: Unit | None
) -> None:
    units = SameTypeUnits(ListedTypes(ANIMALS), [])
    assert {units.draw(unit, unit_type, number) for number in (0.0, 0.5, 1 - 2**-53)} == {found}


typed = st.tuples(
    st.sampled_from("ab"), st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple)
)


@given(
    listed=st.lists(typed, min_size=1, max_size=30),
    asked=typed,
    uniform=st.floats(0, 1, exclude_max=True),
)
def test_what_is_drawn_is_another_unit_of_the_type_and_length(
    listed: list[tuple[Hashable, Unit]], asked: tuple[str, Unit], uniform: float
) -> None:
    unit_type, unit = asked
    drawn = SameTypeUnits(ListedTypes(listed), []).draw(unit, unit_type, uniform)
    possible = {
        other
        for its_type, other in listed
        if its_type == unit_type and len(other) == len(unit) and other != unit
    }
    assert drawn in possible if possible else drawn is None


def test_a_domain_without_types_is_refused(words: Domain) -> None:
    corruptor = SimilarCorruptor("type")
    with pytest.raises(ConfigError, match=r"table = 'type', but domain .* has no types of units"):
        corruptor.fit(
            words, [np.arange(words.vocabulary.ranges[words.name][0], 12, dtype=np.uint8)]
        )
