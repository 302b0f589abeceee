from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.data.store import TokenStore
from seqmlm.errors import ConfigError, DataError
from seqmlm.registry import DOMAINS
from seqmlm_domains.protein.domain import SAMPLES, ProteinDomain

StoreMaker = Callable[..., TokenStore]

# The only tokens at a window tell where it starts.
POSITIONS = np.arange(200, dtype=np.uint8)


def test_the_domain_is_found_by_its_name() -> None:
    assert DOMAINS.load("protein") is ProteinDomain


def test_options_rebuild_the_domain() -> None:
    options = {
        "gaps": "strip",
        "clusters": "clusters.tsv",
        "cluster_threshold": 0.2,
        "nucleotides": "read",
    }
    domain = ProteinDomain(**options)  # type: ignore[arg-type]
    assert dict(domain.options) == options
    assert ProteinDomain(**domain.options).options == domain.options


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"gaps": "drop"}, "domain.gaps"),
        ({"cluster_threshold": 0}, "domain.cluster_threshold"),
        ({"cluster_threshold": 1.5}, "domain.cluster_threshold"),
        ({"cluster_threshold": "high"}, "domain.cluster_threshold"),
        ({"clusters": 3}, "domain.clusters"),
        ({"nucleotides": True}, "domain.nucleotides"),
    ],
)
def test_an_option_outside_its_range_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ProteinDomain(**options)


def test_a_short_protein_is_wrapped_in_start_and_end() -> None:
    encoding = ProteinDomain().assemble(np.array([20, 24, 15], dtype=np.uint8), max_length=5)
    assert encoding.ids.dtype == encoding.unit_ids.dtype == encoding.segment_ids.dtype == np.int32
    assert encoding.ids.tolist() == [0, 20, 24, 15, 2]
    assert encoding.unit_ids.tolist() == [-1, 0, -1, 1, -1]


def test_a_long_protein_without_a_generator_is_cut_to_its_beginning() -> None:
    tokens = np.array([4, 5, 6, 7, 8, 9], dtype=np.uint8)
    assert ProteinDomain().assemble(tokens, max_length=5).ids.tolist() == [0, 4, 5, 6, 2]


@given(st.integers(1, 120), st.integers(3, 130), st.integers(0, 2**32))
def test_a_window_lies_inside_the_record_and_is_as_long_as_allowed(
    length: int, max_length: int, seed: int
) -> None:
    encoding = ProteinDomain().assemble(
        POSITIONS[:length], max_length=max_length, generator=np.random.default_rng(seed)
    )
    window = encoding.ids[1:-1]
    assert len(window) == min(length, max_length - 2)
    assert window.tolist() == list(range(window[0], window[0] + len(window)))
    assert window[-1] < length


def test_windows_are_uniform_over_their_starts() -> None:
    domain, generator = ProteinDomain(), np.random.default_rng(0)
    starts = [
        domain.assemble(POSITIONS[:30], max_length=22, generator=generator).ids[1]
        for _ in range(11_000)
    ]
    counts = np.bincount(starts)
    assert len(counts) == 11
    # 99.9 % quantile of chi-square with 10 degrees of freedom.
    assert ((counts - 1000) ** 2 / 1000).sum() < 29.59


def test_a_length_without_room_for_a_residue_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        ProteinDomain().assemble(POSITIONS, max_length=2)


def test_special_tokens_are_counted() -> None:
    domain = ProteinDomain()
    encoding = domain.assemble(POSITIONS[4:9], max_length=100)
    assert len(encoding) - 5 == domain.special_tokens_per_sequence


def test_text_becomes_ids_and_text_again() -> None:
    domain = ProteinDomain()
    encoding = domain.parse("mkt<mask>yiak")
    assert encoding.ids.tolist() == [0, 20, 15, 11, 32, 19, 12, 5, 15, 2]
    assert domain.decode(encoding.ids.tolist()) == "MKTYIAK"


RELATIVES = ["MKTAYIAKQRQISFVKSHFSRQ", "MKTAYIAKQRQISFVKSHFSRW", "GGLWWCCPPYYHHNNDDEEKKR"]


def test_groups_come_from_shared_kmers_by_default(make_store: StoreMaker) -> None:
    groups = ProteinDomain().similarity_groups(make_store(RELATIVES))
    assert groups[0] == groups[1] != groups[2]


def test_groups_come_from_the_cluster_file_if_there_is_one(
    make_store: StoreMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "clusters.tsv"
    table.write_text("P0\tP0\nP0\tP2\nother\tother\n")
    store = make_store([*RELATIVES, "MKW", "MKY", "MKW"])
    with caplog.at_level(logging.WARNING, logger="seqmlm"):
        groups = ProteinDomain(clusters=str(table)).similarity_groups(store)
    together = [
        pair for pair in itertools.combinations(range(6), 2) if groups[pair[0]] == groups[pair[1]]
    ]
    assert together == [(0, 2), (3, 5)]
    assert "does not list 4 of 6 records" in caplog.text
    assert "1 of its ids" in caplog.text


def test_a_missing_cluster_file_is_refused(make_store: StoreMaker) -> None:
    with pytest.raises(DataError, match="does not exist"):
        ProteinDomain(clusters="nothing.tsv").similarity_groups(make_store(RELATIVES))


def test_close_neighbours_are_those_over_the_threshold(make_store: StoreMaker) -> None:
    store = make_store(RELATIVES)
    found = ProteinDomain().close_neighbours(store, np.array([1, 2]), np.array([0]))
    assert found.tolist() == [True, False]


def test_the_bundled_run_reads_its_family_without_a_complaint() -> None:
    domain, report = ProteinDomain(), ReadReport()
    records = list(domain.read(domain.bundled_run()["data"]["sources"], report))
    block = domain.tokenize(records, report)
    assert report.used == report.read == len(records) == 2070
    assert (block.tokens >= 4).all()
    assert (block.tokens < 24).all()


@pytest.mark.parametrize(
    ("name", "num_records", "num_residues"),
    [("swissprot_archaea_600.fasta.gz", 600, 135_734), ("BLAT_ECOLX.fasta", 1, 286)],
)
def test_the_other_samples_are_whole(name: str, num_records: int, num_residues: int) -> None:
    report = ReadReport()
    records = list(ProteinDomain().read([SAMPLES / name], report))
    assert len(records) == num_records
    assert sum(len(record.content) for record in records) == num_residues
    assert name in (SAMPLES / "ATTRIBUTION.md").read_text()
