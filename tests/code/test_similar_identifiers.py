"""Identifiers replaced by identifiers of the same role and declared type."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from seqmlm.config import configure
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.masking.policy import Masked, MaskingPolicy
from seqmlm.training.distributed import processes
from seqmlm.training.workload import prepare_workload
from seqmlm_domains.code.domain import CodeDomain
from tests.code.sources import SOURCE, WriteTree

Unit = tuple[int, ...]
Key = tuple[int, int, int]

TEXT = """
def f(a: int, b: int, c: str, d):
    g(a)
    h(b)
    return k(c, d)
"""
TINY = Path(__file__).parents[2] / "configs" / "tiny" / "code.toml"
POLICY = {
    "rate": 1.0,
    "selector": {"name": "unit"},
    "corruptor": {"name": "similar", "table": "type", "similar": 1.0, "random": 0.0, "keep": 0.0},
}


@pytest.fixture
def encoding(domain: CodeDomain) -> Encoding:
    report = ReadReport(read=1)
    stored = domain.tokenize([Record("a.py", TEXT, "test", 1)], report).tokens
    return domain.assemble(stored, max_length=200)


def typed_units(encoding: Encoding) -> list[tuple[Key, Unit]]:
    """Role, declared type and number of tokens of every unit, and its tokens."""
    assert encoding.unit_types is not None
    assert encoding.declared_types is not None
    types = zip(encoding.unit_types.tolist(), encoding.declared_types.tolist(), strict=True)
    units = [tokens_of(encoding.ids, encoding, unit) for unit in range(encoding.num_units)]
    return [((*own, len(unit)), unit) for own, unit in zip(types, units, strict=True)]


def tokens_of(ids: np.ndarray, encoding: Encoding, unit: int) -> Unit:
    return tuple(ids[encoding.unit_ids == unit].tolist())


def hide(domain: CodeDomain, encoding: Encoding, seed: int) -> Masked:
    policy = MaskingPolicy.from_settings(POLICY, where="policy")
    report = ReadReport(read=1)
    policy.fit(domain, [domain.tokenize([Record("a.py", TEXT, "test", 1)], report).tokens])
    return policy.apply(
        encoding,
        vocabulary=domain.vocabulary,
        token_range=domain.vocabulary.ranges[domain.name],
        generator=np.random.default_rng(seed),
    )


def test_an_identifier_becomes_another_of_its_role_and_declared_type(
    domain: CodeDomain, encoding: Encoding
) -> None:
    typed = typed_units(encoding)
    assert len({role for (role, *_), _ in typed}) > 3
    replaced = 0
    for seed in range(20):
        ids = hide(domain, encoding, seed).ids
        for number, (key, unit) in enumerate(typed):
            others = {other for its_key, other in typed if its_key == key} - {unit}
            if others:
                assert tokens_of(ids, encoding, number) in others
                replaced += 1
    assert replaced > 100


def test_identifiers_alone_in_their_type_are_counted(
    domain: CodeDomain, encoding: Encoding
) -> None:
    typed = typed_units(encoding)
    alone = [
        len(unit) for key, unit in typed if {other for own, other in typed if own == key} == {unit}
    ]
    counts = hide(domain, encoding, 0).counts
    assert counts.masked == 0
    assert counts.without_candidate == sum(alone) > 0


def test_same_type_identifiers_are_chosen_from_the_configuration_alone(
    write_tree: WriteTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQMLM_CACHE", str(tmp_path / "cache"))
    tree = write_tree({f"m{i}.py": SOURCE.replace("total", f"total{i}") for i in range(8)})
    listed = (
        '[{name = "mlm", policy = {selector = {name = "unit"}, '
        'corruptor = {name = "similar", table = "type"}}}]'
    )
    config = configure(
        domain="code", sources=[str(tree)], files=[TINY],
        overrides=[f"objectives={listed}", "domain.maskable=identifiers", "data.split=random"],
    )  # fmt: skip
    with processes("cpu") as group:
        made = prepare_workload(config, group).batches(epoch=0, batch=0, step=0)
        masking = [batch.micro_batches[0].targets["mlm"].masking for batch in islice(made, 3)]
        made.close()
    assert all(counts is not None and counts.replaced > 0 for counts in masking)
    assert all(counts is not None and counts.masked == 0 for counts in masking)
