"""Proteins as a domain: what is read, what may be masked, which records must not be parted."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from seqmlm.atomic_files import write_file
from seqmlm.data.report import ReadReport
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import Encoding
from seqmlm.errors import CheckpointError, ConfigError
from seqmlm_domains.protein.cluster_file import read_cluster_file
from seqmlm_domains.protein.clustering import have_neighbours, kmer_clusters
from seqmlm_domains.protein.reader import (
    NucleotidePolicy,
    read_records,
    require_nucleotide_policy,
)
from seqmlm_domains.protein.substitutions import substitutions
from seqmlm_domains.protein.tokenizer import (
    TOKENS,
    VOCABULARY,
    GapPolicy,
    ResidueTokenizer,
    decode,
    encode,
)
from seqmlm_domains.protein.vocabulary_file import (
    VOCABULARY_FILE,
    check_vocabulary_file,
    write_vocabulary_file,
)

SAMPLES: Final = Path(__file__).parent / "samples"
"""Small real data sets that ship with the package; sources in its ``ATTRIBUTION.md``."""

DEFAULT_CLUSTER_THRESHOLD: Final = 0.05
"""Chosen on 20,000 UniProt proteins against MMseqs2 clusters at 30 % identity.

Of a held-out twentieth, 47 % still have an MMseqs2 relative in training (random split: 92 %; at
0.3: 76 %, at 0.1: 57 %). At 0.03 strangers that share 5-mers by chance begin to merge clusters.
"""

_logger = logging.getLogger("seqmlm")


class ProteinDomain(Domain):
    """Protein sequences, one amino acid a token and a unit.

    Args:
        gaps: what to do with ``-`` and ``.``: ``refuse``, ``strip`` or ``keep``
            (:class:`~seqmlm_domains.protein.tokenizer.ResidueTokenizer`).
        clusters: path of a ``representative TAB member`` table as MMseqs2 writes; without it,
            clusters come from shared 5-mers.
        cluster_threshold: fraction of the shorter protein's distinct 5-mers, in (0, 1], that
            makes two proteins close. Near-identical variants within one family part at about 0.3.
        nucleotides: ``refuse`` records that are DNA or RNA by their letters, or ``read`` them as
            the proteins that they could be.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    name: ClassVar[str] = "protein"
    summary: ClassVar[str] = "Proteins from FASTA or UniProt files, with the tokens of ESM-2"
    token_dtype = np.uint8
    vocabulary = VOCABULARY

    def __init__(
        self,
        *,
        gaps: GapPolicy = "refuse",
        clusters: str | None = None,
        cluster_threshold: float = DEFAULT_CLUSTER_THRESHOLD,
        nucleotides: NucleotidePolicy = "refuse",
    ) -> None:
        if not isinstance(cluster_threshold, int | float) or not 0 < cluster_threshold <= 1:
            raise ConfigError(
                f"domain.cluster_threshold is {cluster_threshold!r}; it is a fraction in (0, 1]."
            )
        if not isinstance(clusters, str | None):
            raise ConfigError(f"domain.clusters is {clusters!r}; it is the path of a table.")
        require_nucleotide_policy(nucleotides)
        self._tokenizer = ResidueTokenizer(gaps)
        self._clusters = clusters
        self._cluster_threshold = cluster_threshold
        self._nucleotides: NucleotidePolicy = nucleotides

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain."""
        return {
            "gaps": self._tokenizer.gaps,
            "clusters": self._clusters,
            "cluster_threshold": self._cluster_threshold,
            "nucleotides": self._nucleotides,
        }

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Return settings for a model of 0.8 M parameters, which a CPU can train."""
        return {
            "model": {"layers": 4, "hidden_size": 128, "heads": 4},
            "data": {"max_length": 512},
            "objectives": [{"name": "mlm", "policy": {"rate": 0.15}}],
        }

    @classmethod
    def bundled_run(cls) -> dict[str, Any]:
        """Return a run on 2,070 class-A beta-lactamases.

        One family teaches so small a model more in minutes than unrelated proteins do, if whole
        clusters are held out and sampled evenly: most members differ by a few residues. 900
        steps take about five minutes on two cores.
        """
        return {
            "domain": {"cluster_threshold": 0.3},
            "model": {"layers": 4, "hidden_size": 128, "heads": 4, "dropout": 0.1},
            "data": {
                "sources": [str(SAMPLES / "blactamase_family.fasta.gz")],
                "sampling": "cluster",
                "max_length": 512,
                "validation_fraction": 0.2,
            },
            "objectives": [{"name": "mlm", "policy": {"rate": 0.4}}],
            "optimizer": {"learning_rate": 2e-3},
            "training": {
                "steps": 900,
                "tokens_per_batch": 4096,
                "evaluate_every": 100,
                "checkpoint_every": 300,
            },
        }

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield the records of FASTA and UniProt flat files, plain or gzip-compressed."""
        return read_records(sources, report, nucleotides=self._nucleotides)

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return one uint8 id per residue; about 400 M residues a second."""
        return self._tokenizer.tokenize(records, report)

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        """Return ``<cls>``, a window of at most ``max_length - 2`` residues, and ``<eos>``.

        The ends of a window that cuts the protein carry ``<cls>`` and ``<eos>`` too, as in ESM-2.

        Raises:
            ConfigError: ``max_length`` leaves no room for a residue.
        """
        room = max_length - self.special_tokens_per_sequence
        if room < 1:
            raise ConfigError(
                f"data.max_length is {max_length}; <cls>, <eos> and one residue need at least 3."
            )
        if len(tokens) > room:
            start = 0 if generator is None else generator.integers(len(tokens) - room + 1)
            tokens = tokens[start : start + room]
        return encode(tokens)

    @property
    def special_tokens_per_sequence(self) -> int:
        """Two: ``<cls>`` and ``<eos>``."""
        return 2

    def parse(self, text: str) -> Encoding:
        """Encode a typed sequence such as ``MKT<mask>YIAK``."""
        return self._tokenizer.parse(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return one-letter codes, special tokens left out."""
        return decode(ids)

    def import_tokenizer(self, folder: Path, *, rows: int) -> None:
        """Check that ``vocab.txt`` lists the tokens of ESM-2 in their order."""
        check_vocabulary_file(folder / VOCABULARY_FILE, rows=rows)

    def export_tokenizer(self, folder: Path, *, max_length: int | None, has_segments: bool) -> None:
        """Write the files of ``EsmTokenizer``."""
        write_vocabulary_file(folder / VOCABULARY_FILE)
        names = {"cls": "start", "pad": "padding", "eos": "end", "unk": "unknown", "mask": "mask"}
        special = asdict(VOCABULARY.special)
        content: dict[str, Any] = {"tokenizer_class": "EsmTokenizer"}
        content |= {f"{their}_token": TOKENS[special[our]] for their, our in names.items()}
        if max_length is not None:
            content["model_max_length"] = max_length
        path = folder / "tokenizer_config.json"
        write_file(path, json.dumps(content, indent=1) + "\n", error=CheckpointError)

    def similar_units(self) -> Iterable[tuple[tuple[int, ...], tuple[int, ...], float]]:
        """Yield for each residue all others, weighted by BLOSUM62."""
        return substitutions()

    @property
    def neighbours(self) -> str:
        """The criterion of :meth:`close_neighbours`."""
        return f"a neighbour sharing {self._cluster_threshold:.0%} of the 5-mers"

    def similarity_groups(self, store: TokenStore) -> npt.NDArray[np.int64]:
        """Return the cluster of each record, from the cluster file or from shared 5-mers.

        A record that the cluster file does not list is grouped with its identical copies only.

        Raises:
            DataError: the cluster file cannot be used.
        """
        if self._clusters is None:
            return kmer_clusters(store, shared_fraction=self._cluster_threshold)
        assignment = read_cluster_file(self._clusters, store.names())
        if assignment.num_unlisted_records or assignment.num_unused_ids:
            _logger.warning(
                "%s does not list %d of %d records (each gets its own cluster); "
                "%d of its ids are no record.",
                self._clusters,
                assignment.num_unlisted_records,
                len(store),
                assignment.num_unused_ids,
            )
        groups = assignment.clusters
        next_group = int(groups.max(initial=-1)) + 1
        return np.where(groups < 0, next_group + store.identical_groups(), groups)

    def close_neighbours(
        self,
        store: TokenStore,
        queries: npt.NDArray[np.int64],
        references: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.bool_]:
        """Say for each query whether a reference shares the threshold of 5-mers or is identical."""
        return have_neighbours(store, queries, references, shared_fraction=self._cluster_threshold)
