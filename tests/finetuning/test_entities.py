from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.finetuning.entities import (
    Entity,
    are_bio,
    begins_inside,
    complete_bio,
    decode_bio,
    entity_counts,
)

LABELS = ["O", "B-per", "I-per", "B-loc", "I-loc"]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param("O B-per I-per O", [Entity(1, 3, "per")], id="inside"),
        pytest.param("B-per B-per", [Entity(0, 1, "per"), Entity(1, 2, "per")], id="neighbours"),
        pytest.param("O I-per I-per", [Entity(1, 3, "per")], id="begins-with-I"),
        pytest.param("B-per I-loc", [Entity(0, 1, "per"), Entity(1, 2, "loc")], id="type-changes"),
        pytest.param("B-per I-per", [Entity(0, 2, "per")], id="to-the-end"),
        pytest.param("O O", [], id="nothing"),
        pytest.param("", [], id="no-words"),
    ],
)
def test_entities_are_read_as_the_conll_evaluation_reads_them(
    labels: str, expected: list[Entity]
) -> None:
    assert decode_bio(labels.split()) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("B-per I-per O B-loc", 0), ("I-loc O", 1), ("B-per I-loc I-loc I-per", 2), ("", 0)],
)
def test_entities_that_begin_with_an_i_are_counted(labels: str, expected: int) -> None:
    assert begins_inside(labels.split()) == expected


@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_gold_labels_judged_against_themselves_are_all_right(labels: list[str]) -> None:
    right, predicted, true = entity_counts(labels, labels)
    assert right == predicted == true == len(decode_bio(labels))


@given(st.lists(st.sampled_from(LABELS), max_size=12))
def test_entities_neither_overlap_nor_hold_outside_words(labels: list[str]) -> None:
    covered = [i for entity in decode_bio(labels) for i in range(entity.start, entity.end)]
    assert covered == [i for i, label in enumerate(labels) if label != "O"]


def test_an_entity_counts_only_if_span_and_type_agree() -> None:
    true = ["B-per", "I-per", "O", "B-loc"]
    predicted = ["B-per", "O", "O", "B-per"]
    assert entity_counts(true, predicted) == (0, 2, 2)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["O", "B-x"], True), (["O"], False), (["H", "E"], False), (["O", "B-"], False)],
)
def test_bio_labels_are_recognised(labels: list[str], expected: bool) -> None:
    assert are_bio(labels) is expected


def test_both_labels_of_a_type_are_known_once_one_occurs() -> None:
    assert complete_bio(["I-b", "O", "B-a"]) == ["O", "B-a", "I-a", "B-b", "I-b"]
