"""Which objective trains on which sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqmlm.data.samples import SampleBuilder
from seqmlm.data.store import TokenStore
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.objectives.clm import CausalLanguageModelling
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.schedule import Schedule, build_schedule

LABELS = ["clm", "mlm"]


def build(kind: str, labels: Sequence[str] = LABELS, **options: Any) -> Schedule:
    return build_schedule(kind, **{"blocks": "", "shares": {}, **options}, labels=labels)


def test_antlm_gives_the_exact_objective_of_every_epoch() -> None:
    schedule = build("alternate", blocks="4clm,16mlm,4clm")
    active = [schedule.active(seed=0, epoch=epoch, record=5) for epoch in range(48)]
    once = [(0,)] * 4 + [(1,)] * 16 + [(0,)] * 4
    assert active == once * 2
    assert schedule.loss_shares == [1, 1]


@pytest.mark.parametrize(("epochs", "idle"), [(1, [1]), (4, [1]), (5, []), (99, [])])
def test_an_objective_is_idle_until_its_first_block(epochs: int, idle: list[int]) -> None:
    assert list(build("alternate", blocks="4clm,16mlm").never_active(epochs)) == idle
    assert not build("mixture").never_active(epochs)
    assert not build("together").never_active(epochs)


def test_a_mixture_draws_one_objective_per_sample_by_its_share(
    chi_square_p: Callable[[npt.ArrayLike, npt.ArrayLike], float],
) -> None:
    """UniLM: a third bidirectional, a third sequence-to-sequence, a sixth in each direction."""
    labels = ["mlm", "prefix_lm", "clm", "reverse"]
    shares = {"mlm": 2, "prefix_lm": 2, "clm": 1, "reverse": 1}
    schedule = build("mixture", labels, shares=shares)
    drawn = [schedule.active(seed=3, epoch=1, record=record) for record in range(6_000)]
    assert all(len(indices) == 1 for indices in drawn)
    counts = np.bincount([indices[0] for indices in drawn], minlength=4)
    assert chi_square_p(counts, [2_000, 2_000, 1_000, 1_000]) > 1e-3
    assert schedule.loss_shares == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6])


def test_a_mixture_depends_on_seed_epoch_and_record_alone() -> None:
    schedule = build("mixture")

    def draws(seed: int, epoch: int) -> list[int]:
        return [schedule.active(seed=seed, epoch=epoch, record=i)[0] for i in range(64)]

    assert draws(0, 0) == draws(0, 0)
    assert len({tuple(draws(*key)) for key in [(0, 0), (0, 1), (1, 0)]}) == 3
    assert schedule.loss_shares == pytest.approx([0.5, 0.5])


def test_together_is_everything_everywhere() -> None:
    schedule = build("together")
    assert list(schedule.active(seed=0, epoch=7, record=1)) == [0, 1]


@pytest.fixture
def store(word_store: Callable[[Sequence[str]], TokenStore]) -> TokenStore:
    return word_store(["abc def", "ghi", "jkl mno pqr", "stu"] * 8)


def test_batches_hold_the_rows_of_the_active_objectives(words: Domain, store: TokenStore) -> None:
    objectives = [CausalLanguageModelling(words), MaskedLanguageModelling(words, {"rate": 1.0})]
    records = np.arange(8)
    schedule = build("alternate", blocks="1clm,2mlm")
    builder = SampleBuilder(words, store, objectives, 40, 0, schedule)
    names = [list(builder.batch(epoch, records).targets) for epoch in range(4)]
    assert names == [["clm"], ["mlm"], ["mlm"], ["clm"]]
    mixed = SampleBuilder(words, store, objectives, 40, 0, build("mixture")).batch(0, records)
    assert mixed.num_rows == 8
    assert set(mixed.targets) == {"clm", "mlm"}
    assert SampleBuilder(words, store, objectives, 40, 0).batch(0, records).num_rows == 16


def test_static_masks_are_the_same_in_every_epoch(words: Domain, store: TokenStore) -> None:
    def ids(copies: int) -> list[list[int]]:
        objective = MaskedLanguageModelling(words, {"rate": 0.5, "copies": copies})
        builder = SampleBuilder(words, store, [objective], 40, 0)
        return [builder.batch(epoch, np.arange(8)).ids.tolist() for epoch in range(4)]

    dynamic, static, two = ids(0), ids(1), ids(2)
    assert len({tuple(each) for each in dynamic}) == 4
    assert static == [dynamic[0]] * 4
    assert two == dynamic[:2] * 2


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("alternate", {}, "write it as epochs and objective"),
        ("alternate", {"blocks": "clm4"}, "write it as epochs and objective"),
        ("alternate", {"blocks": "0clm,1mlm"}, "write it as epochs and objective"),
        ("alternate", {"blocks": "4clm,16mln"}, "no objective 'mln'. Did you mean 'mlm'"),
        ("alternate", {"blocks": "4clm"}, "mlm would never be trained"),
        ("alternate", {"blocks": "4clm,4mlm", "shares": {"clm": 1}}, "kind = 'mixture'"),
        ("mixture", {"shares": {"clm": 1}}, "mlm has no share above 0"),
        ("mixture", {"shares": {"clm": 1, "mlm": 0}}, "mlm has no share above 0"),
        ("mixture", {"shares": {"clm": 1, "mlm": 1, "nsp": 1}}, "no objective 'nsp'"),
        ("together", {"blocks": "4clm"}, "kind = 'alternate'"),
    ],
)
def test_faulty_schedules_are_explained(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(kind, **options)
