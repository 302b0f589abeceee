"""Objectives that break one promise each are refused, in words that name the promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seqmlm.data.packing import PackedBatch
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, EncodingBatch
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.clm import CausalLanguageModelling
from seqmlm.objectives.mlm import MaskedLanguageModelling
from seqmlm.objectives.pmlm import PseudoMaskedLanguageModelling
from seqmlm.objectives.prefix_lm import PrefixLanguageModelling
from seqmlm.objectives.rows import LossSum, Objective, Row, Targets
from seqmlm.objectives.rtd import ReplacedTokenDetection
from seqmlm.randomness import Streams
from seqmlm.registry import DOMAINS
from seqmlm.testing import check_objective

TEXTS = ["MKTAYIAKQRQISFVKSHFSRQ", "MKVLAAGIAKWWYTFGSDERRKL", "ACDEFGHIKLMNPQRSTVWY"]
DOMAIN: Domain = DOMAINS.load("protein")()
GLOBAL = np.random.default_rng()

Change = Callable[[Row], Row]


def masked(change: Change) -> Objective:
    """Masked language modelling whose rows are changed, alone and in batches alike."""

    class Changed(MaskedLanguageModelling):
        def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
            return change(super().rows_of_batch(batch, streams))

    return Changed(DOMAIN)


def causal(change: Change) -> Objective:
    class Changed(CausalLanguageModelling):
        def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
            return [change(row) for row in super().rows(encoding, generator)]

    return Changed(DOMAIN)


def with_loss(change: Callable[[LossSum], LossSum]) -> Objective:
    class Changed(CausalLanguageModelling):
        def loss(self, model: Model, hidden: Tensor, batch: PackedBatch) -> LossSum:
            return change(super().loss(model, hidden, batch))

    return Changed(DOMAIN)


def targeting(row: Row, change: Callable[[Targets], dict[str, Any]]) -> Row:
    return replace(row, targets={name: replace(t, **change(t)) for name, t in row.targets.items()})


def one_at_the_start(row: Row) -> Row:
    """The first target alone, on the token before all others."""
    return targeting(
        row,
        lambda t: {
            "positions": np.zeros_like(t.positions[:1]),
            "labels": t.labels[:1],
            "allowed": None,
        },
    )


def reaching(row: Row, further: int) -> Row:
    assert row.visibility is not None
    reach = row.visibility.reach + np.int32(further)
    return replace(row, visibility=replace(row.visibility, reach=reach))


def with_weights(value: float) -> Objective:
    return masked(
        lambda row: targeting(row, lambda t: {"weights": np.full(len(t.labels), value, np.float32)})
    )


def ids_at_start(row: Row, token: int) -> Row:
    return replace(row, ids=np.where(row.position_ids == 0, np.int32(token), row.ids))


class UnusedModule(CausalLanguageModelling):
    def build_module(self, encoder: EncoderConfig) -> nn.Module:
        return nn.Linear(3, 3)


class WrongRate(MaskedLanguageModelling):
    mask_token_rate = 0.9


class UndeclaredRate(MaskedLanguageModelling):
    mask_token_rate = 0.0


class NoRows(CausalLanguageModelling):
    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        return []


class Raising(CausalLanguageModelling):
    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        return [super().rows(encoding, generator)[1]]


class ChangesTheEncoding(CausalLanguageModelling):
    def rows(self, encoding: Encoding, generator: np.random.Generator) -> Sequence[Row]:
        encoding.segment_ids[:] += 1
        return super().rows(encoding, generator)


class OneStream(MaskedLanguageModelling):
    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        return super().rows_of_batch(batch, Streams(np.zeros(len(batch), np.uint64)))


class DependsOnItsMates(MaskedLanguageModelling):
    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        streams.uniform(np.full(len(batch), len(batch)))
        return super().rows_of_batch(batch, streams)


class SeesItsPseudoTargets(PseudoMaskedLanguageModelling):
    def rows_of_batch(self, batch: EncodingBatch, streams: Streams) -> Row:
        return replace(super().rows_of_batch(batch, streams), visibility=None)


def rolled(t: Targets) -> dict[str, Any]:
    return {"labels": np.roll(t.labels, 1)}


def random_like(array: np.ndarray) -> np.ndarray:
    return GLOBAL.integers(5, 20, len(array)).astype(np.int32)


MASK = DOMAIN.vocabulary.special.mask
PADDING = DOMAIN.vocabulary.special.padding

BROKEN: dict[str, tuple[Callable[[], Objective], str]] = {
    "hides nothing": (
        lambda: masked(
            lambda row: replace(row, ids=np.where(row.ids == MASK, np.int32(5), row.ids))
        ),
        "mask_token_rate: 0.120 is declared, but 0.000",
    ),
    "one label for all": (
        lambda: masked(lambda row: targeting(row, lambda t: {"labels": t.labels * 0 + 7})),
        "rows\\(\\): a label is not the true id at its place",
    ),
    "labels of other targets": (
        lambda: masked(lambda row: targeting(row, rolled)),
        "rows\\(\\): a label is not the true id at its place",
    ),
    "positions off by one": (
        lambda: masked(lambda row: targeting(row, lambda t: {"positions": t.positions - 1})),
        "rows\\(\\): (a label is not the true id|a target has no token) at its place",
    ),
    "labels of an outside generator": (
        lambda: masked(lambda row: targeting(row, lambda t: {"labels": random_like(t.labels)})),
        "rows\\(\\): the same generator state gave other targets\\['mlm'\\].labels",
    ),
    "weights of an outside generator": (
        lambda: masked(
            lambda row: targeting(
                row, lambda t: {"weights": GLOBAL.random(len(t.labels), np.float32)}
            )
        ),
        "the same generator state gave other targets\\['mlm'\\].weights",
    ),
    "segment ids of an outside generator": (
        lambda: masked(lambda row: replace(row, segment_ids=random_like(row.ids))),
        "the same generator state gave other segment_ids",
    ),
    "role ids of an outside generator": (
        lambda: masked(lambda row: replace(row, role_ids=random_like(row.ids))),
        "the same generator state gave other role_ids",
    ),
    "weights that are no numbers": (lambda: with_weights(np.nan), "a weight is not finite"),
    "negative weights": (lambda: with_weights(-1), "targets 'mlm': a weight is negative"),
    "sees the future": (
        lambda: causal(lambda row: replace(row, visibility=None)),
        "causal_direction: the loss at place 0 depends on ids that come after it",
    ),
    "sees its label": (
        lambda: causal(lambda row: reaching(row, 1)),
        "causal_direction: the loss at place 0 depends on ids that come after it",
    ),
    "predicts the token it stands on": (
        lambda: causal(lambda row: targeting(row, lambda t: {"positions": t.positions + 1})),
        "at the next place",
    ),
    "masks a special token": (
        lambda: masked(lambda row: ids_at_start(row, MASK)),
        "a token that may not be masked was changed",
    ),
    "padding in a row": (lambda: masked(lambda row: ids_at_start(row, PADDING)), "padding"),
    "ids of float64": (
        lambda: masked(lambda row: replace(row, ids=row.ids.astype(np.float64))),
        "ids must be int32, not float64",
    ),
    "ids of int64": (
        lambda: masked(lambda row: replace(row, ids=row.ids.astype(np.int64))),
        "ids must be int32, not int64",
    ),
    "all position ids 0": (
        lambda: masked(lambda row: replace(row, position_ids=row.position_ids * 0)),
        "or its position id was",
    ),
    "every target twice": (
        lambda: masked(
            lambda row: targeting(
                row,
                lambda t: {
                    "positions": np.repeat(t.positions, 2),
                    "labels": np.repeat(t.labels, 2),
                    "allowed": None,
                },
            )
        ),
        "a position is a target twice",
    ),
    "a label too few": (
        lambda: masked(
            lambda row: targeting(row, lambda t: {"labels": t.labels[:-1], "allowed": None})
        ),
        "labels has shape",
    ),
    "targets on special tokens": (
        lambda: masked(one_at_the_start),
        "a target has no token at its place that may be predicted",
    ),
    "ids beyond the vocabulary": (
        lambda: masked(lambda row: replace(row, ids=row.ids + np.int32(1000))),
        "an id is beyond the vocabulary",
    ),
    "targets under another name": (
        lambda: masked(lambda row: replace(row, targets={"other": row.targets["mlm"]})),
        "targets 'other': not among its terms, mlm",
    ),
    "no targets": (
        lambda: masked(lambda row: replace(row, targets={})),
        "no row has targets 'mlm', one of its terms",
    ),
    "no rows": (lambda: NoRows(DOMAIN), "rows\\(\\): there are no rows"),
    "rows() raises": (lambda: Raising(DOMAIN), "rows\\(\\): raised IndexError"),
    "the encoding is changed": (
        lambda: ChangesTheEncoding(DOMAIN),
        "segment_ids of the encoding was changed",
    ),
    "declares too many masks": (
        lambda: WrongRate(DOMAIN),
        "mask_token_rate: 0.900 is declared, but 0.1",
    ),
    "declares no masks": (
        lambda: UndeclaredRate(DOMAIN),
        "mask_token_rate: 0.000 is declared, but 0.1",
    ),
    "ignores its generator": (
        lambda: OneStream(DOMAIN),
        "does not depend on the generator",
    ),
    "a row depends on its batch": (
        lambda: DependsOnItsMates(DOMAIN),
        "what else a batch holds changes the row of a sample",
    ),
    "sees what it predicts": (
        lambda: SeesItsPseudoTargets(DOMAIN),
        "a target sees the token that it is to predict",
    ),
    "loss is a mean": (
        lambda: with_loss(lambda loss: replace(loss, total=loss.total / loss.count.clamp(min=1))),
        "loss\\(\\): the loss is not a sum",
    ),
    "loss counts other targets": (
        lambda: with_loss(lambda loss: replace(loss, count=loss.count + 1)),
        "loss\\(\\) and count\\(\\) disagree",
    ),
    "loss is negated": (
        lambda: with_loss(lambda loss: replace(loss, total=-loss.total)),
        "a cross-entropy is below 0: it is negated",
    ),
    "loss falls as labels get less likely": (
        lambda: with_loss(lambda loss: replace(loss, total=9 * loss.count - loss.total)),
        "makes the labels less likely",
    ),
    "loss is detached": (
        lambda: with_loss(lambda loss: replace(loss, total=loss.total.detach())),
        "the loss has no gradient: it is detached",
    ),
    "gradient is 0": (
        lambda: with_loss(lambda loss: replace(loss, total=loss.total * 0 + loss.total.detach())),
        "the gradient of the encoder is 0",
    ),
    "loss is not finite": (
        lambda: with_loss(lambda loss: replace(loss, total=loss.total * torch.inf)),
        "the loss is not finite",
    ),
    "a module without use": (
        lambda: UnusedModule(DOMAIN),
        "what build_module\\(\\) returned has no gradient",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_objective_is_refused_by_name(name: str) -> None:
    build, message = BROKEN[name]
    with pytest.raises(AssertionError, match=message):
        check_objective(build(), DOMAIN, TEXTS)


@pytest.mark.parametrize(
    "objective",
    [
        MaskedLanguageModelling(DOMAIN),
        MaskedLanguageModelling(DOMAIN, {"selector": {"name": "span"}, "rate": 0.5}),
        MaskedLanguageModelling(DOMAIN, {"rate": {"start": 0.5, "end": 0.1}}),
        CausalLanguageModelling(DOMAIN),
        CausalLanguageModelling(DOMAIN, direction="right_to_left"),
        PrefixLanguageModelling(DOMAIN),
        PseudoMaskedLanguageModelling(DOMAIN, auto_encoding=2.0),
        ReplacedTokenDetection(DOMAIN),
    ],
    ids=lambda objective: objective.name,
)
def test_the_objectives_that_they_are_made_of_are_not(objective: Objective) -> None:
    check_objective(objective, DOMAIN, TEXTS)


@pytest.mark.parametrize("method", ["rows", "prepare"])
def test_an_objective_of_batches_cannot_override_what_is_never_called(method: str) -> None:
    with pytest.raises(TypeError, match=rf"Mine overrides {method}\(\).*Override rows_of_batch"):
        type("Mine", (MaskedLanguageModelling,), {method: lambda *_: None})
