"""Probes on states whose content is known, and the bookkeeping around them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from seqmlm.analysis.labels import LabelledText
from seqmlm.analysis.probe import (
    analyse_probe,
    balanced_accuracy,
    control_classes,
    split_documents,
)
from seqmlm.analysis.run import AnalysedRun
from seqmlm.analysis.word_states import align_words, word_states
from seqmlm.data.packing import pack
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.protein.domain import ProteinDomain

Runs = Callable[..., AnalysedRun]
RESIDUES = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture(scope="module")
def run(analysed: Runs) -> AnalysedRun:
    return analysed(domain=ProteinDomain())


def text_of(*words: str, labels: str = "", document: str = "d") -> LabelledText:
    return LabelledText(words, tuple(labels or "X" * len(words)), document, "labels, line 1")


@pytest.fixture(scope="module")
def residues() -> list[LabelledText]:
    """Proteins whose residues are labelled by whether they are charged."""
    generator = np.random.default_rng(0)
    sequences = [generator.choice(list(RESIDUES), 20) for _ in range(20)]
    return [
        text_of(
            *sequence,
            labels="".join("C" if residue in "DEKR" else "N" for residue in sequence),
            document=str(number),
        )
        for number, sequence in enumerate(sequences)
    ]


def test_tokens_belong_to_the_word_that_they_stand_in(run: AnalysedRun) -> None:
    encoding, owners = align_words(run, text_of("MKT", "A", "YI"), joined_by=" ")
    assert len(encoding) == 8
    assert owners.tolist() == [-1, 0, 0, 0, 1, 2, 2, -1]


def test_the_state_of_a_word_is_the_mean_over_its_tokens(run: AnalysedRun) -> None:
    found = word_states(run, [text_of("MKT", "A"), text_of("YI")], tokens_per_batch=6)
    assert found.types.tolist() == ["MKT", "A", "YI"]
    assert len(found.states) == 3
    with torch.no_grad():
        first = run.model.encoder.embed(pack([run.row(run.model.domain.parse("MKTA"))]))
        second = run.model.encoder.embed(pack([run.row(run.model.domain.parse("YI"))]))
    expected = torch.stack([first[1:4].mean(0), first[4], second[1:3].mean(0)])
    torch.testing.assert_close(found.states[0], expected)


def test_masked_words_are_read_as_masks(run: AnalysedRun) -> None:
    texts = [text_of("MKT", "A"), text_of("YI")]
    found = word_states(run, texts, masked_words=[0, -1])
    encoding = run.model.domain.parse("<mask><mask><mask>A")
    with torch.no_grad():
        last = run.model(pack([run.row(encoding)]))[4]
    torch.testing.assert_close(run.model.encoder.final_norm(found.states[-1][1]), last)
    plain = word_states(run, texts)
    torch.testing.assert_close(found.states[-1][2], plain.states[-1][2])


def test_what_the_embedding_says_is_found_and_the_control_is_not_beyond_memory(
    run: AnalysedRun, residues: list[LabelledText]
) -> None:
    """Charge is a function of the residue: so is the control, which embeddings solve as well."""
    report = analyse_probe(run, residues, joined_by="", test_share=0.3, seed=1)
    assert [scores.layer for scores in report.layers] == [0, 1, 2]
    assert report.documents == (14, 6)
    assert (report.train_words, report.test_words) == (280, 120)
    assert report.majority_balanced_accuracy == 0.5
    embeddings = report.layers[0]
    assert embeddings.accuracy.value > 0.95
    assert embeddings.selectivity.value == pytest.approx(
        embeddings.accuracy.value - embeddings.control_accuracy.value
    )
    assert report == analyse_probe(run, residues, joined_by="", test_share=0.3, seed=1)


def test_labels_without_relation_to_the_text_are_not_found(run: AnalysedRun) -> None:
    generator = np.random.default_rng(0)
    texts = [
        text_of("".join(generator.choice(list(RESIDUES), 12)), labels=label, document=str(number))
        for number, label in enumerate(generator.choice(["A", "B"], 120))
    ]
    report = analyse_probe(run, texts)
    assert all(0.2 < scores.balanced_accuracy < 0.8 for scores in report.layers)


def test_no_document_is_on_both_sides() -> None:
    documents = np.repeat([f"d{i}" for i in range(10)], 3)
    is_test = split_documents(documents, 0.3, seed=0)
    assert is_test.sum() == 9
    assert not set(documents[is_test]) & set(documents[~is_test])
    assert split_documents(np.array(["a", "b"]), 0.01, seed=0).sum() == 1


def test_control_labels_depend_on_the_word_alone_and_are_as_frequent() -> None:
    types = np.array([f"w{i % 400}" for i in range(1200)])
    classes = np.array([0] * 900 + [1] * 300)
    control = control_classes(types, classes, seed=0)
    assert np.array_equal(control[:400], control[400:800])
    assert control.mean() == pytest.approx(0.25, abs=0.07)
    assert not np.array_equal(control, control_classes(types, classes, seed=1))


def test_balanced_accuracy_by_hand() -> None:
    correct = np.array([True, True, True, False, False])
    assert balanced_accuracy(correct, np.array([0, 0, 0, 0, 1])) == pytest.approx((0.75 + 0) / 2)


def test_what_cannot_be_probed_is_refused(run: AnalysedRun, analysed: Runs) -> None:
    one = [text_of("MKT", document=str(i)) for i in range(4)]
    with pytest.raises(DataError, match="All labels are 'X'"):
        analyse_probe(run, one)
    two = [text_of("MKT", labels="A"), text_of("MAY", labels="B")]
    with pytest.raises(DataError, match="All labelled texts are of one document"):
        analyse_probe(run, two)
    with pytest.raises(ConfigError, match=r"test share = 1: must be between 0 and 1"):
        analyse_probe(run, two, test_share=1)
    with pytest.raises(DataError, match=r"^labels, line 1: "):
        analyse_probe(run, [*one, text_of("M1", labels="B")])
    with pytest.raises(DataError, match="'words' does not say where"):
        word_states(analysed(), [text_of("abc")])
