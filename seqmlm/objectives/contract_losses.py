"""What the losses of every objective promise, on a real, tiny model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.data.packing import PackedBatch, pack
from seqmlm.domain import Domain
from seqmlm.encoding import Encoding, IntArray
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.rows import LossSum, Objective, Row, Targets
from seqmlm.vocabulary import AllowedPerTarget

STEP = 1e-3
"""How far a step downhill goes, in units of the gradient's direction."""

RATE_TOLERANCE = 0.05
"""How far the realised mask rate may be from the declared one, beside three standard errors."""


def tiny_model(objective: Objective, domain: Domain) -> Model:
    """Return a model of two layers whose every weight matters; in evaluation mode."""
    torch.manual_seed(0)
    config = EncoderConfig(
        vocabulary_size=len(domain.vocabulary),
        mask_token=domain.vocabulary.special.mask,
        layers=2,
        hidden_size=16,
        heads=2,
        segments=8,
    )
    model = Model(domain, config)
    model.add_objective_modules([objective])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def check_loss(objective: Objective, domain: Domain, rows: Sequence[Row]) -> None:
    """The loss is a sum, it is what :meth:`Objective.count` says, and can be learned from.

    Args:
        objective: built for ``domain``.
        domain: gives the vocabulary.
        rows: with targets, or none of them has any.

    Raises:
        AssertionError: one of these promises is broken.
    """
    model = tiny_model(objective, domain)
    batch = pack(rows)
    whole = _loss_of(objective, model, batch)
    assert whole.total.isfinite().all(), "the loss is not finite"
    assert whole.total.shape == whole.count.shape, "total and count differ in shape"
    counts = [objective.count(batch, term) for term in objective.terms]
    assert whole.total.numel() == len(counts), "total has not one entry for each of its terms"
    assert np.allclose(whole.count.reshape(-1).tolist(), counts), "loss() and count() disagree"
    parts = [_loss_of(objective, model, pack([row])).total.detach() for row in rows]
    summed = torch.stack(parts).sum(dim=0)
    assert torch.allclose(summed, whole.total.detach(), rtol=1e-4), "the loss is not a sum"
    assert not any(objective.count(pack([]), term) for term in objective.terms), (
        "count() of an empty batch is not 0"
    )
    if not any(counts):
        return
    if all(targets.values is None for row in rows for targets in row.targets.values()):
        assert (whole.total >= 0).all(), "a cross-entropy is below 0: it is negated"
    assert whole.total.requires_grad, "the loss has no gradient: it is detached"
    _check_gradient(objective, model, batch, whole)


def _check_gradient(objective: Objective, model: Model, batch: PackedBatch, loss: LossSum) -> None:
    """A small step against the gradient lowers the loss, and makes the labels likelier."""
    before = _mean(objective, loss)
    before.backward()  # type: ignore[no-untyped-call]
    embedding = model.encoder.token_embedding.weight.grad
    assert embedding is not None, "the gradient does not reach the encoder"
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients), "the gradient is not finite"
    assert embedding.any(), "the gradient of the encoder is 0: the loss is detached"
    if objective.name in model.objective_modules:
        own = [p.grad for p in model.objective_modules[objective.name].parameters()]
        assert any(g is not None and g.any() for g in own), (
            "what build_module() returned has no gradient: it is not used"
        )
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    likelihood = _label_loss(objective, model, batch)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(STEP / norm * parameter.grad)
        after = _mean(objective, _loss_of(objective, model, batch))
    # Of an objective that samples ids by a model of its own a step may change the samples.
    if objective.complete(model, batch) is batch:
        assert after < before, "a small step against the gradient does not lower the loss"
    if objective.predicts_tokens and objective.name not in model.objective_modules:
        assert _label_loss(objective, model, batch) < likelihood, (
            "a small step against the gradient makes the labels less likely"
        )


def _mean(objective: Objective, loss: LossSum) -> Tensor:
    """The mean that training lowers: of the terms with targets."""
    weights = loss.total.new_tensor(list(objective.terms.values()))
    return (weights * loss.total.reshape(-1) / loss.count.reshape(-1).clamp(min=1)).sum()


def _label_loss(objective: Objective, model: Model, batch: PackedBatch) -> float:
    with torch.no_grad():
        return float(model.token_loss(model(batch), batch.targets_for(objective.name)).total)


def _loss_of(objective: Objective, model: Model, batch: PackedBatch) -> LossSum:
    batch = objective.complete(model, batch)
    return objective.loss(model, model(batch), batch)


def check_mask_rate(
    objective: Objective, domain: Domain, drawn: Sequence[tuple[Encoding, Row]]
) -> None:
    """As many tokens are seen as the mask token as :attr:`Objective.mask_token_rate` says.

    Of an objective that prepares other encodings than these the share is not known.

    Args:
        objective: built for ``domain``.
        domain: gives the mask token.
        drawn: encodings, and rows of them by different generators in the middle of a run.

    Raises:
        AssertionError: the share is another one.
    """
    if prepares(objective):
        return
    with torch.no_grad():
        batch = objective.complete(tiny_model(objective, domain), pack([row for _, row in drawn]))
    may_be_masked = np.concatenate([_may_be_masked(encoding, row) for encoding, row in drawn])
    ids = batch.ids.numpy()[may_be_masked]
    declared = objective.mask_token_rate
    if not len(ids):
        return
    realised = float((ids == domain.vocabulary.special.mask).mean())
    error = math.sqrt(declared * (1 - declared) / len(ids))
    assert abs(realised - declared) <= RATE_TOLERANCE + 3 * error, (
        f"{declared:.3f} is declared, but {realised:.3f} of the tokens that may be masked are"
    )


def _may_be_masked(encoding: Encoding, row: Row) -> npt.NDArray[np.bool_]:
    """Which tokens of a row stand at the places of maskable tokens."""
    maskable_places = places_of(encoding)[encoding.unit_ids >= 0]
    maskable: npt.NDArray[np.bool_] = np.isin(row.position_ids, maskable_places)
    return maskable


def places_of(encoding: Encoding) -> IntArray:
    """Return the position ids of an encoding, int32 ``[n]``."""
    if encoding.position_ids is None:
        return np.arange(len(encoding), dtype=np.int32)
    return encoding.position_ids


def prepares(objective: Objective) -> bool:
    """Say whether its rows are made from something else than the encodings of records."""
    return type(objective).prepare is not Objective.prepare


def check_causality(objective: Objective, domain: Domain, rows: Sequence[Row]) -> None:
    """Other ids behind a target, its own label included, leave its loss bit for bit what it is.

    Args:
        objective: causal, built for ``domain``.
        domain: gives ids to put in.
        rows: of it.

    Raises:
        AssertionError: a loss has changed.
    """
    model = tiny_model(objective, domain)
    forwards = objective.causal_direction == "left_to_right"
    low, high = domain.vocabulary.ranges[domain.name]
    for row in rows:
        places = row.position_ids if forwards else -row.position_ids
        targets = row.targets.get(objective.name)
        if targets is None or not len(targets.positions):
            continue
        borders = np.sort(places[targets.positions])
        for border in {borders[0], borders[len(borders) // 2], borders[-1]}:
            earlier = replace(row, targets=_until(row.targets, places, border))
            others = (row.ids - low + 1) % (high - low) + low
            changed = replace(earlier, ids=np.where(places > border, others, row.ids))
            with torch.no_grad():
                losses = [_loss_of(objective, model, pack([r])).total for r in (earlier, changed)]
            assert torch.equal(*losses), (
                f"the loss at place {abs(int(border))} depends on ids that come after it, read "
                f"{objective.causal_direction}"
            )


def _until(
    targets: Mapping[str, Targets], places: npt.NDArray[np.int32], border: np.int32
) -> dict[str, Targets]:
    """The targets at the places up to a border."""
    return {key: _kept(each, places[each.positions] <= border) for key, each in targets.items()}


def _kept(targets: Targets, keeps: npt.NDArray[np.bool_]) -> Targets:
    allowed = targets.allowed
    if isinstance(allowed, AllowedPerTarget):
        allowed = replace(allowed, index=allowed.index[keeps])
    return replace(
        targets,
        positions=targets.positions[keeps],
        labels=targets.labels[keeps],
        allowed=allowed,
        weights=None if targets.weights is None else targets.weights[keeps],
        draws=None if targets.draws is None else targets.draws[keeps],
        values=None if targets.values is None else targets.values[keeps],
    )
