from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqmlm_domains.kg import ranking
from seqmlm_domains.kg.linearisation import Part
from seqmlm_domains.kg.ranking import Queries, query_batches, rank_answers

Triples = npt.NDArray[np.int64]
ENTITIES, RELATIONS = 7, 2

triples = st.lists(
    st.tuples(
        st.integers(0, ENTITIES - 1), st.integers(0, RELATIONS - 1), st.integers(0, ENTITIES - 1)
    ),
    min_size=1,
    max_size=25,
    unique=True,
)


def score(missing: Part, known: int, relation: int, answer: int) -> float:
    """Of few values, so that most queries have ties."""
    return float((3 * known + 5 * relation + 2 * answer * answer + missing) % 4)


def ranked(
    asked: Triples,
    missing: Part,
    known: Triples,
    size: int,
    excluded: npt.NDArray[np.int64] | None = None,
) -> dict[int, tuple[int, int, int]]:
    """Optimistic, pessimistic and candidates by number of the triple."""
    queries = Queries.of(asked, missing, known_triples=known)
    found = {}
    for batch in query_batches(queries, size):
        table = torch.tensor(
            [
                [
                    score(missing, entity, relation, answer)
                    for entity, relation in queries.known[batch]
                ]
                for answer in range(ENTITIES)
            ]
        )

        def scores(which: slice | Tensor, table: Tensor = table) -> Tensor:
            return table[which]

        ranks, numbers = rank_answers(
            queries,
            batch.start,
            scores,
            num_entities=ENTITIES,
            device=torch.device("cpu"),
            excluded=excluded,
        )
        for row, number in enumerate(numbers.tolist()):
            found[number] = (
                int(ranks.optimistic[row]),
                int(ranks.pessimistic[row]),
                int(ranks.candidates[row]),
            )
    return found


def counted(
    triple: tuple[int, ...],
    missing: Part,
    known: set[tuple[int, ...]],
    candidates: Iterable[int] = range(ENTITIES),
) -> tuple[int, ...]:
    """The same for one triple, from the definition."""
    asked = Part.TAIL if missing == Part.HEAD else Part.HEAD

    def stated(answer: int) -> tuple[int, ...]:
        changed = list(triple)
        changed[missing] = answer
        return tuple(changed)

    true = score(missing, triple[asked], triple[Part.RELATION], triple[missing])
    others = [
        score(missing, triple[asked], triple[Part.RELATION], answer)
        for answer in candidates
        if answer != triple[missing] and stated(answer) not in known
    ]
    higher = sum(other > true for other in others)
    ties = sum(other == true for other in others)
    return higher + 1, higher + ties + 1, len(others) + 1


@pytest.mark.parametrize("missing", [Part.HEAD, Part.TAIL])
@given(asked=triples, more=triples, size=st.integers(1, 9), chunk=st.integers(1, ENTITIES))
def test_ranks_are_those_of_the_definition(
    missing: Part,
    asked: list[tuple[int, int, int]],
    more: list[tuple[int, int, int]],
    size: int,
    chunk: int,
) -> None:
    """Whatever is filtered, however queries are batched and entities chunked, ties included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "ENTITIES_PER_CHUNK", chunk)
        found = ranked(np.array(asked), missing, np.array(more), size)
    known: set[tuple[int, ...]] = {*asked, *more}
    assert found == {number: counted(triple, missing, known) for number, triple in enumerate(asked)}


@pytest.mark.parametrize("missing", [Part.HEAD, Part.TAIL])
@given(asked=triples, more=triples, chunk=st.integers(1, ENTITIES))
def test_entities_in_no_triple_are_no_candidates_of_a_ranking(
    missing: Part,
    asked: list[tuple[int, int, int]],
    more: list[tuple[int, int, int]],
    chunk: int,
) -> None:
    excluded = ranking.unmentioned(ENTITIES, np.array(asked), np.array(more))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "ENTITIES_PER_CHUNK", chunk)
        found = ranked(np.array(asked), missing, np.array(more), 2, excluded)
    known: set[tuple[int, ...]] = {*asked, *more}
    mentioned = {end for head, _, tail in known for end in (head, tail)}
    assert found == {
        number: counted(triple, missing, known, mentioned) for number, triple in enumerate(asked)
    }


def test_equal_queries_are_one_and_their_answers_do_not_compete() -> None:
    asked = np.array([[0, 0, 1], [2, 0, 3], [0, 0, 4]])
    queries = Queries.of(asked, Part.TAIL, known_triples=np.array([[0, 0, 5], [6, 1, 6]]))
    assert queries.known.tolist() == [[0, 0], [2, 0]]
    assert queries.triples.tolist() == [0, 2, 1]
    assert queries.answers.tolist() == [1, 4, 3]
    assert queries.answer_offsets.tolist() == [0, 2, 3]
    assert [sorted(part) for part in np.split(queries.filtered, [3])] == [[1, 4, 5], [3]]
    assert queries.filter_offsets.tolist() == [0, 3, 4]


def test_the_realistic_rank_is_the_mean_of_the_others() -> None:
    ranks = ranking.Ranks(np.array([1, 2]), np.array([4, 2]), np.array([9, 9]))
    assert ranks.realistic.tolist() == [2.5, 2.0]


def test_no_triples_ask_nothing() -> None:
    """Looking them up failed on an empty table."""
    queries = Queries.of(np.zeros((0, 3), np.int64), Part.TAIL, known_triples=np.array([[0, 0, 1]]))
    assert len(queries) == 0
    assert len(queries.filtered) == 0
