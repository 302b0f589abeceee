from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqmlm.data.store import TokenStore
from seqmlm_domains.protein.clustering import have_neighbours, kmer_clusters
from seqmlm_domains.protein.tokenizer import STANDARD_RESIDUES

StoreMaker = Callable[..., TokenStore]

LETTERS = np.array(list(STANDARD_RESIDUES))


def random_protein(generator: np.random.Generator, length: int) -> str:
    return "".join(generator.choice(LETTERS, length))


def mutated(generator: np.random.Generator, protein: str, count: int) -> str:
    letters = np.array(list(protein))
    for position in generator.choice(len(letters), count, replace=False):
        others = [letter for letter in STANDARD_RESIDUES if letter != letters[position]]
        letters[position] = generator.choice(others)
    return "".join(letters)


def distinct_kmers(sequence: str) -> set[str]:
    windows = {sequence[i : i + 5] for i in range(len(sequence) - 4)}
    return {window for window in windows if set(window) <= set(STANDARD_RESIDUES)}


def are_neighbours(first: str, second: str, fraction: float) -> bool:
    a, b = distinct_kmers(first), distinct_kmers(second)
    return len(a & b) >= max(4, fraction * min(len(a), len(b)) - 1e-9)


def greedy_clusters(sequences: list[str], fraction: float) -> list[int]:
    """The definition, by sets: the longest record without a cluster takes its neighbours."""
    founders: dict[str, str] = {}
    unique = [sequences[i] for i in np.unique(sequences, return_index=True)[1]]
    for founder in sorted(unique, key=len, reverse=True):
        if founder not in founders:
            for other in unique:
                if other not in founders and are_neighbours(founder, other, fraction):
                    founders[other] = founder
            founders[founder] = founder
    names = list(dict.fromkeys(founders.values()))
    return [names.index(founders[sequence]) for sequence in sequences]


def same_partition(first: npt.ArrayLike, second: npt.ArrayLike) -> bool:
    pairs = {*zip(np.asarray(first).tolist(), np.asarray(second).tolist(), strict=True)}
    return len(pairs) == len(np.unique(first)) == len(np.unique(second))


def families(generator: np.random.Generator, num: int = 12, size: int = 5) -> list[str]:
    founders = [random_protein(generator, int(generator.integers(80, 200))) for _ in range(num)]
    return [mutated(generator, founder, 4) for founder in founders for _ in range(size)]


def test_planted_families_are_found_and_kept_apart(make_store: StoreMaker) -> None:
    store = make_store(families(np.random.default_rng(0)))
    clusters = kmer_clusters(store, shared_fraction=0.3)
    assert same_partition(clusters, np.arange(60) // 5)
    assert sorted(set(clusters.tolist())) == list(range(12))


@pytest.mark.parametrize("seed", range(3))
def test_a_split_by_clusters_leaves_no_neighbour_across(make_store: StoreMaker, seed: int) -> None:
    generator = np.random.default_rng(seed)
    store = make_store(families(generator))
    clusters = kmer_clusters(store, shared_fraction=0.3)
    is_held_out = np.isin(clusters, generator.choice(12, 4, replace=False))
    held_out, training = np.flatnonzero(is_held_out), np.flatnonzero(~is_held_out)
    assert not have_neighbours(store, held_out, training, shared_fraction=0.3).any()


def test_a_random_split_of_families_is_found_leaking(make_store: StoreMaker) -> None:
    store = make_store(families(np.random.default_rng(1)))
    first_of_family = np.arange(0, 60, 5)
    others = np.setdiff1d(np.arange(60), first_of_family)
    assert have_neighbours(store, first_of_family, others, shared_fraction=0.3).all()


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.7, 1.0])
def test_clusters_equal_the_definition(make_store: StoreMaker, fraction: float) -> None:
    # Lengths differ, so that the order of founders is defined.
    generator = np.random.default_rng(2)
    core = random_protein(generator, 120)
    sequences = [
        mutated(generator, core[: 30 + 2 * i], int(generator.integers(0, 12))) for i in range(45)
    ]
    clusters = kmer_clusters(make_store(sequences), shared_fraction=fraction)
    assert same_partition(clusters, greedy_clusters(sequences, fraction))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet="AGLX", min_size=1, max_size=14), min_size=1, max_size=8))
def test_neighbours_equal_the_definition(make_store: StoreMaker, sequences: list[str]) -> None:
    store = make_store(sequences)
    queries, references = np.arange(len(sequences)), np.arange(0, len(sequences), 2)
    expected = [
        any(
            query == sequences[reference] or are_neighbours(query, sequences[reference], 0.5)
            for reference in references
        )
        for query in sequences
    ]
    found = have_neighbours(store, queries, references, shared_fraction=0.5)
    assert found.tolist() == expected


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(alphabet="AGLXB", min_size=1, max_size=14), min_size=1, max_size=8),
    st.floats(0.01, 1),
    st.sampled_from([5, 2**25]),
)
def test_identical_records_are_always_together(
    make_store: StoreMaker, sequences: list[str], fraction: float, max_index_entries: int
) -> None:
    clusters = kmer_clusters(
        make_store([*sequences, *sequences]),
        shared_fraction=fraction,
        max_index_entries=max_index_entries,
    )
    assert (clusters[: len(sequences)] == clusters[len(sequences) :]).all()


def test_short_peptides_that_share_little_stay_apart(make_store: StoreMaker) -> None:
    # 7-mers have three 5-mers, fewer than neighbours must share.
    clusters = kmer_clusters(make_store(["MKTAYIA", "MKTAYIW", "MKTAYIA"]), shared_fraction=0.05)
    assert clusters[0] == clusters[2] != clusters[1]


@pytest.mark.parametrize(("shared", "is_neighbour"), [("MKTAYIAK", True), ("MKTAYIA", False)])
def test_neighbours_share_at_least_four_kmers(
    make_store: StoreMaker, shared: str, is_neighbour: bool
) -> None:
    # Runs of 8 and 7 residues hold four and three 5-mers.
    store = make_store([f"{shared}GGGG", f"WWWW{shared}"])
    found = have_neighbours(store, np.array([0]), np.array([1]), shared_fraction=0.05)
    assert found.tolist() == [is_neighbour]


def test_the_exact_fraction_is_enough(make_store: StoreMaker) -> None:
    """7 of 100 are 0.07, although 0.07 * 100 is more than 7 in binary."""
    generator = np.random.default_rng(8)
    shared = random_protein(generator, 11)
    first, second = (shared + random_protein(generator, 93) for _ in range(2))
    assert len(distinct_kmers(first)) == len(distinct_kmers(second)) == 100
    assert len(distinct_kmers(first) & distinct_kmers(second)) == 7
    clusters = kmer_clusters(make_store([first, second]), shared_fraction=0.07)
    assert clusters[0] == clusters[1]


def test_a_repeated_kmer_counts_once(make_store: StoreMaker) -> None:
    generator = np.random.default_rng(6)
    repeats = [random_protein(generator, length) + "E" * 60 for length in (40, 80)]
    clusters = kmer_clusters(make_store(repeats), shared_fraction=0.05)
    assert clusters[0] != clusters[1]


def test_the_fraction_is_of_the_record_with_fewer_distinct_kmers(make_store: StoreMaker) -> None:
    # The longer one has a single 5-mer (E) beside the 26 that both hold; the shorter one has 96.
    domain = random_protein(np.random.default_rng(7), 100)
    store = make_store(["E" * 200 + domain[:30], domain])
    assert len(np.unique(kmer_clusters(store, shared_fraction=0.8))) == 1
    both_ways = have_neighbours(store, np.array([0]), np.array([1]), shared_fraction=0.8)
    assert both_ways.all()


def test_a_fragment_joins_the_protein_it_is_part_of(make_store: StoreMaker) -> None:
    protein = random_protein(np.random.default_rng(3), 400)
    clusters = kmer_clusters(make_store([protein[150:200], protein]), shared_fraction=0.9)
    assert clusters[0] == clusters[1]


def test_records_of_nothing_but_unknown_residues_are_no_neighbours(make_store: StoreMaker) -> None:
    clusters = kmer_clusters(make_store(["X" * 30, "X" * 40]), shared_fraction=0.05)
    assert clusters[0] != clusters[1]


def test_records_without_residues_can_be_clustered(make_store: StoreMaker) -> None:
    clusters = kmer_clusters(make_store(["", "MKTAYIAKQR", ""]), shared_fraction=0.3)
    assert clusters[0] == clusters[2] != clusters[1]


def test_no_reference_has_no_neighbour(make_store: StoreMaker) -> None:
    store = make_store(["MKTAYIAKQR"])
    nothing = np.empty(0, dtype=np.int64)
    assert have_neighbours(store, np.array([0]), nothing, shared_fraction=0.3).tolist() == [False]
    assert have_neighbours(store, nothing, np.array([0]), shared_fraction=0.3).tolist() == []


def test_a_sample_of_kmers_still_finds_families_and_says_that_it_is_thin(
    make_store: StoreMaker, caplog: pytest.LogCaptureFixture
) -> None:
    sequences = families(np.random.default_rng(4))
    total = sum(len(sequence) for sequence in sequences)
    with caplog.at_level(logging.WARNING, logger="seqmlm"):
        clusters = kmer_clusters(
            make_store(sequences), shared_fraction=0.3, max_index_entries=total // 4
        )
    assert same_partition(clusters, np.arange(60) // 5)
    assert "domain.clusters" in caplog.text


def test_stores_larger_than_one_chunk_are_indexed_alike(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(families(np.random.default_rng(5)))
    whole = kmer_clusters(store, shared_fraction=0.3)
    monkeypatch.setattr("seqmlm_domains.protein.clustering._TOKENS_AT_ONCE", 300)
    assert (kmer_clusters(store, shared_fraction=0.3) == whole).all()
