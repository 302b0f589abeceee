"""Contract tests that come with the interfaces: hold whatever you add to them.

>>> from seqmlm.testing import check_domain
>>> check_domain(MyDomain(), ["a text", "another one"])

Each check raises AssertionError with what is wrong. Built-in parts pass the same checks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from seqmlm.contract import reported
from seqmlm.data.corpus import Corpus
from seqmlm.data.report import ReadReport
from seqmlm.data.store import StoreWriter, TokenStore
from seqmlm.domain import Domain, Record
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.masking.corruptor_contract import check_corruptor as check_corruptor
from seqmlm.masking.policy import UNIFORM_MASKS
from seqmlm.masking.selector_contract import check_selector as check_selector
from seqmlm.objectives.contract import check_objective as check_objective
from seqmlm.objectives.contract_losses import check_loss
from seqmlm.objectives.pair import PairObjective
from seqmlm.objectives.rows import Row, with_targets
from seqmlm.randomness import Streams
from seqmlm_kernels.contract import check_backend as check_backend


def check_domain(domain: Domain, texts: Sequence[str], *, folder: Path | None = None) -> None:
    """Hold a domain to its contract.

    Args:
        domain: freshly built. One that learns its vocabulary learns it from ``texts``.
        texts: at least two valid records of different lengths, as :meth:`Domain.read` yields
            their content.
        folder: an empty folder, to check that a tokenizer survives saving and loading; a domain
            that learns its vocabulary needs it.

    Raises:
        AssertionError: a promise of :class:`seqmlm.domain.Domain` is broken.
    """
    assert len(texts) >= 2, "give at least two texts"
    records = [Record(f"r{i}", text, "test", i + 1) for i, text in enumerate(texts)]
    if domain.learns_vocabulary:
        assert folder is not None, "give a folder: the vocabulary is learned and must be kept"
        _check_learning(domain, records)
    _check_description(domain)
    report = ReadReport(read=len(records))
    block = domain.tokenize(records, report)
    assert block.tokens.dtype == np.dtype(domain.token_dtype), "tokens are not of token_dtype"
    assert len(block.lengths) == len(records), "tokenize must give one length per record"
    assert block.lengths.sum() == len(block.tokens), "lengths must add up to the tokens"
    assert report.read == len(records), "tokenize must not count records as read"
    parts = np.split(block.tokens, np.cumsum(block.lengths)[:-1])
    _check_assembling(domain, parts)
    for text, tokens in zip(texts, parts, strict=True):
        encoding = _assemble(domain, tokens)
        _check_encoding(domain, encoding)
        assert encoding.segment_ids.max() < domain.num_segments, "a segment is beyond num_segments"
        stored = domain.token_ids(tokens)
        assert len(stored) == len(tokens), "token_ids must give one id per stored token"
        assert np.isin(stored, encoding.ids).all(), "token_ids and assemble disagree"
        _check_window(domain, tokens)
        decoded = domain.decode(encoding.ids.tolist())
        again = domain.parse(decoded)
        assert np.array_equal(again.ids, encoding.ids), f"{text!r} does not survive decode, parse"
        _check_offsets(domain, decoded, again)
        _check_masking(domain, encoding)
    if folder is not None:
        domain.save_tokenizer(folder)
        domain.load_tokenizer(folder)
    _check_rebuild(domain, parts, folder)


def check_pair_objective(objective: PairObjective, domain: Domain, texts: Sequence[str]) -> None:
    """Hold an objective on pairs to its contract, beside :func:`check_objective`.

    Args:
        objective: built for ``domain``.
        domain: has its vocabulary.
        texts: at least two valid records, as :meth:`Domain.read` yields their content; two of
            them give pairs.

    Raises:
        AssertionError: a promise of :class:`seqmlm.objectives.pair.PairObjective` is broken.
        ConfigError: the texts give no pairs.
    """
    with TemporaryDirectory() as folder:
        store = _store_of(domain, texts, Path(folder))
        records = np.flatnonzero(store.lengths)
        corpus = Corpus(domain, store, records, int(store.lengths.max()) + 3)
        objective.check(corpus)
        rows: list[Row] = []
        for seed, record in enumerate(np.resize(records, 40).tolist()):
            encoding = _assemble(domain, store[record])
            prepared, again = (
                objective.prepare(corpus, record, encoding, np.random.default_rng(seed))
                for _ in range(2)
            )
            assert np.array_equal(prepared.encoding.ids, again.encoding.ids), (
                "the same generator state must give the same pair"
            )
            made = with_targets(
                objective.rows(prepared.encoding, np.random.default_rng(seed)), prepared.targets
            )
            if prepared.targets:
                _check_encoding(domain, prepared.encoding)
                _check_pair(objective, domain, prepared.encoding, corpus.max_length)
            rows += made
        labels = {int(row.targets[objective.name].labels[0]) for row in rows}
    assert labels == {0, 1}, "40 pairs must have both labels"
    with reported(objective.name, "loss()"):
        check_loss(objective, domain, rows)


def _check_pair(
    objective: PairObjective, domain: Domain, encoding: Encoding, max_length: int
) -> None:
    special = domain.vocabulary.special
    segments = encoding.segment_ids
    assert len(encoding) <= max_length, f"{objective.name}: a pair exceeds max_length"
    assert set(segments.tolist()) == {0, 1}, "segment ids must be 0 and 1"
    assert (np.diff(segments) >= 0).all(), "the first side must come first"
    assert encoding.ids[0] == special.start, "a pair must begin with the start token"
    for side, least in ((0, 3), (1, 2)):
        ids = encoding.ids[segments == side]
        assert ids[-1] == special.end, "each side must end with the end token"
        assert len(ids) >= least, "a side holds nothing but special tokens"


def _store_of(domain: Domain, texts: Sequence[str], folder: Path) -> TokenStore:
    records = [Record(f"r{i}", text, "test", i + 1) for i, text in enumerate(texts)]
    report = ReadReport(read=len(records))
    block = domain.tokenize(records, report)
    with StoreWriter(folder, token_dtype=domain.token_dtype) as writer:
        writer.append([record.name for record in records], block.tokens, block.lengths)
        writer.finish(report=report, made_from={}, version="0")
    return TokenStore(folder)


def _check_learning(domain: Domain, records: Sequence[Record]) -> None:
    assert not domain.has_vocabulary, "a domain that learns its vocabulary must begin without"
    domain.fit_tokenizer(records)
    assert domain.has_vocabulary, "fit_tokenizer must set the vocabulary"
    again = type(domain)(**domain.options)
    again.fit_tokenizer(records)
    assert again.vocabulary.fingerprint() == domain.vocabulary.fingerprint(), (
        "equal records and options must give equal vocabularies"
    )


def _check_description(domain: Domain) -> None:
    assert domain.name, "name must not be empty"
    assert domain.summary, "summary must not be empty"
    assert domain.name in domain.vocabulary.ranges, "the vocabulary has no range of the domain"
    largest = np.iinfo(domain.token_dtype).max
    assert len(domain.vocabulary) <= largest + 1, "token_dtype cannot hold every id"
    json.dumps(dict(domain.options))
    assert isinstance(domain.default_config(), dict)


def _assemble(domain: Domain, tokens: np.ndarray) -> Encoding:
    return domain.assemble(tokens, max_length=len(tokens) + domain.special_tokens_per_sequence)


def _check_assembling(domain: Domain, records: Sequence[np.ndarray]) -> None:
    """Records that are assembled together are what they are alone."""
    longest = max(len(tokens) for tokens in records) + domain.special_tokens_per_sequence
    keys = np.arange(len(records), dtype=np.uint64)
    together = domain.assemble_all(
        records, max_length=longest, generators=Streams(keys).generators()
    )
    generators = Streams(keys).generators()
    for tokens, encoding, generator in zip(records, together, generators, strict=True):
        alone = domain.assemble(tokens, max_length=longest, generator=generator)
        for field in fields(Encoding):
            assert np.array_equal(getattr(encoding, field.name), getattr(alone, field.name)), (
                f"assemble_all and assemble disagree on {field.name}"
            )


def _check_encoding(domain: Domain, encoding: Encoding) -> None:
    low, high = domain.vocabulary.ranges[domain.name]
    for name in ("ids", "unit_ids", "segment_ids"):
        assert getattr(encoding, name).dtype == np.int32, f"{name} must be int32"
    if encoding.role_ids is not None:
        assert encoding.role_ids.dtype == np.int32, "role_ids must be int32"
        roles = encoding.role_ids
        assert ((roles >= 0) & (roles < domain.num_roles)).all(), "a role is beyond num_roles"
    maskable = encoding.unit_ids >= 0
    ids = encoding.ids[maskable]
    assert ((ids >= low) & (ids < high)).all(), "a maskable token lies outside the range"
    units = np.unique(encoding.unit_ids[maskable])
    assert np.array_equal(units, np.arange(len(units))), "unit ids must count from 0 without gaps"
    assert (np.diff(encoding.unit_ids[maskable]) >= 0).all(), "unit ids must not decrease"
    if encoding.unit_types is not None:
        types = encoding.unit_types
        assert ((types >= 0) & (types < len(domain.unit_types))).all(), (
            "a type of a unit has no name in unit_types"
        )


def _check_window(domain: Domain, tokens: np.ndarray) -> None:
    if len(tokens) < 2:
        return
    room = len(tokens) - 1 + domain.special_tokens_per_sequence
    try:
        first = domain.assemble(tokens, max_length=room)
    except ConfigError:
        return  # nothing of such a record may be left out
    assert len(first) <= room, "assemble() exceeds max_length"
    drawn = [
        domain.assemble(tokens, max_length=room, generator=np.random.default_rng(5)).ids
        for _ in range(2)
    ]
    assert np.array_equal(drawn[0], drawn[1]), "the window must depend on the generator alone"


def _check_offsets(domain: Domain, text: str, encoding: Encoding) -> None:
    if encoding.offsets is None:
        return
    for (start, end), unit in zip(encoding.offsets.tolist(), encoding.unit_ids, strict=True):
        assert 0 <= start <= end <= len(text), "an offset lies outside the text"
        assert unit < 0 or end > start, "a maskable token must cover part of the text"


def _check_masking(domain: Domain, encoding: Encoding) -> None:
    masked = UNIFORM_MASKS.apply(
        encoding,
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges[domain.name],
        generator=np.random.default_rng(0),
    )
    untouched = np.ones(len(encoding), np.bool_)
    untouched[masked.positions] = False
    assert np.array_equal(masked.ids[untouched], encoding.ids[untouched])
    assert (encoding.unit_ids[masked.positions] >= 0).all(), "an unmaskable token was masked"


def _check_rebuild(domain: Domain, parts: Sequence[np.ndarray], folder: Path | None) -> None:
    rebuilt = type(domain)(**domain.options)
    if rebuilt.learns_vocabulary and folder is not None:
        rebuilt.load_tokenizer(folder)
    copied: Domain = copy.deepcopy(domain)
    for other in (rebuilt, copied):
        assert other.vocabulary.fingerprint() == domain.vocabulary.fingerprint()
        for tokens in parts:
            assert np.array_equal(_assemble(other, tokens).ids, _assemble(domain, tokens).ids)
