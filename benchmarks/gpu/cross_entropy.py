"""Masked cross-entropy beside what torch and others have: time, memory and errors.

Times are of forward and backward of the mean loss. The peers have no sets of allowed ids: where a
case has some, they mask the scores.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as functional
from torch import Tensor

from benchmarks.gpu.compiling import compiled
from benchmarks.gpu.race import Contestant, race, with_tuned_launches
from benchmarks.gpu.session import Session
from seqmlm_kernels import masked_cross_entropy, rejected_targets
from seqmlm_kernels.triton import projection_plan

# Scores that a warm-up may hold, while others fill the memory as well.
WARM_UP_SCORES = 1 << 30
REGIMES = ("one tile", "materialised", "recomputed")


@dataclass(frozen=True)
class Case:
    """One shape: ``allowed_share`` of the vocabulary, in one shared set; None without a set."""

    name: str
    tokens: int
    predictions: int
    vocabulary: int
    hidden_size: int
    allowed_share: float | None = None


TEXT = "cross-entropy, M 9,830, V 50,368, E 768"
PROTEIN = "cross-entropy, M 9,830, V 33, E 1,280"
ENTITIES = "cross-entropy, M 4,096, V 1 M, E 512, a tenth allowed"
# The host's launches are most of the time.
SMALL = (PROTEIN,)
TIMED = (
    Case(TEXT, 32_768, 9830, 50_368, 768),
    Case(PROTEIN, 32_768, 9830, 33, 1280),
    Case(ENTITIES, 8192, 4096, 1_000_000, 512, 0.1),
    Case("cross-entropy, M 9,830, V 50,368, specials excluded", 32_768, 9830, 50_368, 768, 1.0),
    Case("cross-entropy, M 2,048, V 50,368, E 768", 8192, 2048, 50_368, 768),
)


def run(session: Session) -> None:
    """Time everyone on every case."""
    rejected_targets(session.device).zero_()
    for case in TIMED[:2] if session.is_rehearsal else TIMED:
        session.attempt(case.name, partial(time_case, session, case))
    session.record("rejected targets", count=int(rejected_targets(session.device)))


def time_case(session: Session, case: Case) -> None:
    """One race of all contestants."""
    timed = case
    if session.is_rehearsal:
        vocabulary = min(case.vocabulary, 260)
        timed = replace(case, tokens=8, predictions=5, vocabulary=vocabulary, hidden_size=16)
    elif session.is_warm_up:
        timed = replace(case, predictions=min(case.predictions, WARM_UP_SCORES // case.vocabulary))
    operands = operands_of(timed, torch.bfloat16, session.device)
    flop = 6.0 * timed.predictions * timed.vocabulary * timed.hidden_size
    everyone = contestants(session, timed, operands)
    graphed = ("seqmlm", "eager", "torch.compile") if case.name in SMALL else ()
    race(session, case.name, everyone, flop=flop, tokens=timed.predictions, graphed=graphed)


@dataclass(frozen=True, eq=False)
class Operands:
    """Leaves that require gradients, and what selects from them."""

    hidden: Tensor
    weight: Tensor
    rows: Tensor
    targets: Tensor
    words: Tensor | None
    mask: Tensor | None

    def leaves(self) -> tuple[Tensor, ...]:
        """Tensors whose gradients are compared."""
        return self.hidden, self.weight


def operands_of(case: Case, dtype: torch.dtype, device: torch.device) -> Operands:
    """Random operands; allowed ids are one range, as the entities of one type are."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, generator=generator)

    hidden = normal(case.tokens, case.hidden_size).to(dtype).requires_grad_()
    weight = (normal(case.vocabulary, case.hidden_size) / case.hidden_size**0.5).to(dtype)
    rows = torch.randperm(case.tokens, device=device, generator=generator)[: case.predictions]
    lowest, highest, words, mask = 0, case.vocabulary, None, None
    if case.allowed_share is not None:
        lowest = 5 if case.allowed_share == 1.0 else case.vocabulary // 2
        highest = min(case.vocabulary, lowest + int(case.allowed_share * case.vocabulary))
        mask = torch.zeros(case.vocabulary, dtype=torch.bool, device=device)
        mask[lowest:highest] = True
        words = packed(mask)
    targets = torch.randint(
        lowest, highest, (case.predictions,), device=device, generator=generator
    )
    rows = rows.sort().values.int()
    return Operands(hidden, weight.requires_grad_(), rows, targets, words, mask)


def packed(mask: Tensor) -> Tensor:
    """Bitset [1, ceil(V / 32)] of [V] bool."""
    bits = functional.pad(mask, (0, -len(mask) % 32)).view(-1, 32).long()
    words = (bits << torch.arange(32, device=mask.device)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int().unsqueeze(0)


def ours(operands: Operands, backend: str = "triton") -> Tensor:
    """The package's function."""
    loss, _ = masked_cross_entropy(
        operands.hidden,
        operands.weight,
        None,
        operands.rows,
        operands.targets,
        allowed=operands.words,
        backend=backend,
    )
    return loss.mean()


def eager(operands: Operands) -> Tensor:
    """Linear, scores to fp32, cross-entropy."""
    chosen = operands.hidden[operands.rows.long()]
    scores = functional.linear(chosen, operands.weight).float()
    if operands.mask is not None:
        scores = scores.masked_fill(~operands.mask, -torch.inf)
    return functional.cross_entropy(scores, operands.targets)


def chunked(operands: Operands) -> Tensor:
    """torch.nn.functional.linear_cross_entropy in its chunked form, where torch has it."""
    return functional.linear_cross_entropy(
        operands.hidden[operands.rows.long()],
        operands.weight,
        operands.targets,
        options=torch.nn.LinearCrossEntropyOptions(),
    )


def make_liger() -> Callable[[Operands], Tensor]:
    """Liger-Kernel: chunks of rows, gradients in the forward."""
    loss = importlib.import_module("liger_kernel.transformers").LigerFusedLinearCrossEntropyLoss()
    return lambda operands: loss(
        operands.weight, operands.hidden[operands.rows.long()], operands.targets
    )


def make_cut_cross_entropy() -> Callable[[Operands], Tensor]:
    """Apple's cut cross-entropy (Wijmans et al. 2024), without its filter of small gradients."""
    linear_cross_entropy = importlib.import_module("cut_cross_entropy").linear_cross_entropy
    return lambda operands: linear_cross_entropy(
        operands.hidden[operands.rows.long()],
        operands.weight,
        operands.targets,
        impl="cce_exact",
    )


@contextmanager
def forced_regime(regime: str) -> Iterator[None]:
    """Make every call run in one regime, whatever its size."""
    names = ("ONE_TILE_VOCABULARY", "MATERIALISED_BYTES")
    saved = {name: getattr(projection_plan, name) for name in names}
    if regime != "one tile":
        projection_plan.ONE_TILE_VOCABULARY = 0
        projection_plan.MATERIALISED_BYTES = 1 << 62 if regime == "materialised" else 0
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(projection_plan, name, value)


def regimes_of(vocabulary: int) -> tuple[str, ...]:
    """Regimes that can run a vocabulary of that size."""
    is_small = vocabulary <= projection_plan.ONE_TILE_VOCABULARY
    return REGIMES if is_small else REGIMES[1:]


def contestants(session: Session, case: Case, operands: Operands) -> list[Contestant]:
    """Everyone; who cannot run a case says so."""

    def contestant(
        name: str,
        make: Callable[[], Callable[[Operands], Tensor]],
        regime: str | None = None,
        *,
        compiles: bool = True,
    ) -> Contestant:
        def made() -> Callable[[], object]:
            loss = make()
            return lambda: results_of(loss, operands, regime)

        return Contestant(name, made, compiles)

    run_tuned = partial(with_tuned_launches, partial(results_of, ours, operands, None))
    everyone = [
        contestant("seqmlm", lambda: ours),
        # The section "tuning" has compiled it.
        Contestant("seqmlm, tuned", lambda: run_tuned, compiles=False),
    ]
    for regime in regimes_of(case.vocabulary):
        everyone.append(contestant(f"seqmlm, {regime}", lambda: ours, regime))
    everyone.append(contestant("eager", lambda: eager, compiles=False))
    everyone.append(contestant("torch.compile", lambda: compiled(session, eager)))
    if case.allowed_share is None:
        everyone.append(contestant("F.linear_cross_entropy", lambda: chunked, compiles=False))
        everyone.append(contestant("Liger", make_liger))
        everyone.append(contestant("cut cross-entropy", make_cut_cross_entropy))
    return everyone


def results_of(
    loss: Callable[[Operands], Tensor], operands: Operands, regime: str | None
) -> tuple[Tensor, ...]:
    """Loss and gradients."""
    with nullcontext() if regime is None else forced_regime(regime):
        value = loss(operands)
        return value.detach(), *torch.autograd.grad(value, operands.leaves())
