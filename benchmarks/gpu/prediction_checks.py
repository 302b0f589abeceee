"""What is checked of everything over a vocabulary: loss, softmax, likelihoods and best ids.

Cases have one and several vocabulary tiles, slabs and chunks, all kinds of sets, rows that are
predicted once and several times, and run in every regime.
"""

# M predictions, V vocabulary, E hidden size, R allowed sets

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.gpu import branches, correctness
from benchmarks.gpu.correctness import Comparison, Piece, Results
from benchmarks.gpu.cross_entropy import forced_regime, packed, regimes_of
from benchmarks.gpu.session import Session
from seqmlm_kernels import masked_cross_entropy, masked_softmax, token_log_likelihood, top_k
from seqmlm_kernels.triton.launch import InputPrecision

Sets = Literal["every", "shared", "indexed"]


@dataclass(frozen=True)
class PredictionCase:
    """One projection onto a vocabulary.

    Args:
        sets: every id is allowed; a tenth, in one range; three sets, of which one is empty.
        tokens: that there are hidden states of; None for some more than predictions.
        has_repeated_rows: rows are drawn with replacement, of a third of the tokens.
        has_rising_rows: in ascending order, as in training.
        regime: the only one in which it is run; None for all that can run its vocabulary.
        way: one of `branches.WAYS`; None for a plain call.
    """

    predictions: int
    vocabulary: int
    hidden_size: int
    sets: Sets = "every"
    has_bias: bool = False
    tokens: int | None = None
    has_repeated_rows: bool = False
    has_rising_rows: bool = False
    precision: InputPrecision = "ieee"
    regime: str | None = None
    way: str | None = None

    def __str__(self) -> str:
        parts = (
            f"M {self.predictions:,}",
            f"V {self.vocabulary:,}",
            f"E {self.hidden_size}",
            f"{self.sets} ids" if self.sets == "every" else f"{self.sets} sets",
            "bias" if self.has_bias else "",
            f"{self.tokens:,} tokens" if self.tokens else "",
            "repeated rows" if self.has_repeated_rows else "",
            "rising rows" if self.has_rising_rows else "",
            self.precision,
            self.way or "",
        )
        return ", ".join(filter(None, parts))


CASES = (
    PredictionCase(300, 33, 256, has_bias=True, has_rising_rows=True),
    PredictionCase(300, 33, 100, "indexed"),
    PredictionCase(300, 200, 256, "shared", has_bias=True, has_repeated_rows=True),
    PredictionCase(300, 5001, 192, has_bias=True),
    PredictionCase(300, 5001, 192, "shared", has_bias=True),
    PredictionCase(300, 5001, 100, "indexed", has_repeated_rows=True),
    # Two chunks of predictions, each with several slabs of the vocabulary.
    PredictionCase(16_500, 9000, 64, has_repeated_rows=True),
    # Several tiles of predictions for each program, some 300 predictions of each row.
    PredictionCase(
        *(9830, 33, 256, "shared"),
        has_bias=True,
        tokens=100,
        has_repeated_rows=True,
        regime="one tile",
    ),
)
INFERENCE_CASES = (
    *((CASES[0], 1), (CASES[1], 4), (CASES[2], 10), (CASES[4], 10), (CASES[5], 64)),
    (CASES[4], 100),  # two passes
)
# (rows, vocabulary): one tile of several rows, and several tiles of one.
SOFTMAX_SHAPES: tuple[tuple[int, int, Sets], ...] = (
    (300, 70, "shared"),
    (40, 5001, "indexed"),
    (9, 50_368, "shared"),
)


def pieces(dtype: torch.dtype, *, is_rehearsal: bool) -> Iterator[Piece]:
    """Checks of one dtype by name."""
    if is_rehearsal:
        yield from _rehearsed(dtype)
        return
    precisions = branches.precisions(dtype)
    cases = [replace(case, precision=precision) for case in CASES for precision in precisions]
    for way in (branches.COMPILED_LOSS, branches.REPLAYED_LOSS):
        cases.append(replace(CASES[4], way=way))
    for case in cases:
        for regime in (case.regime,) if case.regime else regimes_of(case.vocabulary):
            yield from _loss_piece(case, regime, dtype)
    for case, k in INFERENCE_CASES:
        for precision in precisions:
            yield from _inference_pieces(replace(case, precision=precision), k, dtype)
    for rows, vocabulary, sets in SOFTMAX_SHAPES:
        yield from _softmax_piece(rows, vocabulary, sets, dtype)


def _rehearsed(dtype: torch.dtype) -> Iterator[Piece]:
    small = PredictionCase(5, 70, 16, "indexed", has_bias=True, has_repeated_rows=True)
    for regime in regimes_of(small.vocabulary):
        yield from _loss_piece(small, regime, dtype)
    yield from _loss_piece(replace(small, way=branches.COMPILED_LOSS), "recomputed", dtype)
    yield from _inference_pieces(small, 4, dtype)
    yield from _softmax_piece(3, 70, "indexed", dtype)


def _loss_piece(case: PredictionCase, regime: str, dtype: torch.dtype) -> Iterator[Piece]:
    piece = partial(check_loss, case=case, regime=regime, dtype=dtype)
    yield f"cross-entropy, {case}, {regime}", piece


def _inference_pieces(case: PredictionCase, k: int, dtype: torch.dtype) -> Iterator[Piece]:
    yield f"token log-likelihood, {case}", partial(check_likelihood, case=case, dtype=dtype)
    yield f"top {k}, {case}", partial(check_top_k, case=case, k=k, dtype=dtype)


def _softmax_piece(rows: int, vocabulary: int, sets: Sets, dtype: torch.dtype) -> Iterator[Piece]:
    piece = partial(check_softmax, rows=rows, vocabulary=vocabulary, sets=sets, dtype=dtype)
    yield f"masked softmax, M {rows}, V {vocabulary:,}, {sets} sets", piece


@dataclass(frozen=True, eq=False)
class Operands:
    """Hidden states, weight and bias that require gradients, and what selects from them."""

    leaves: tuple[Tensor, ...]
    rows: Tensor
    targets: Tensor
    allowed: Tensor | None
    allowed_index: Tensor | None

    def exact(self) -> Operands:
        """The same in fp64."""
        leaves = tuple(x.detach().double().requires_grad_() for x in self.leaves)
        return replace(self, leaves=leaves)

    def projection(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Hidden states, weight, bias or None, and rows."""
        hidden, weight, *bias = self.leaves
        return hidden, weight, bias[0] if bias else None, self.rows

    def sets(self) -> dict[str, Any]:
        """Keyword arguments of the public functions."""
        return {"allowed": self.allowed, "allowed_index": self.allowed_index}


def operands_of(case: PredictionCase, dtype: torch.dtype, device: torch.device) -> Operands:
    """Random operands; every target is in its set, unless that is empty."""
    generator = torch.Generator(device).manual_seed(0)
    tokens = case.tokens or case.predictions * 5 // 4 + 1

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, generator=generator)

    leaves = [normal(tokens, case.hidden_size)]
    leaves.append(normal(case.vocabulary, case.hidden_size) / case.hidden_size**0.5)
    if case.has_bias:
        leaves.append(normal(case.vocabulary))
    rows = torch.randperm(tokens, device=device, generator=generator)[: case.predictions]
    if case.has_rising_rows:
        rows = rows.sort().values
    if case.has_repeated_rows:
        rows = torch.randint(
            tokens // 3 + 1, (case.predictions,), device=device, generator=generator
        )
    allowed, index, masks = sets_of(case.sets, case.predictions, case.vocabulary, device)
    mine = masks[:1].expand(case.predictions, -1) if index is None else masks[index.long()]
    chances = torch.where(mine.any(-1, keepdim=True), mine.float(), 1.0)
    targets = torch.multinomial(chances, 1, generator=generator).squeeze(1)
    return Operands(
        tuple(x.to(dtype).requires_grad_() for x in leaves), rows.int(), targets, allowed, index
    )


def sets_of(
    sets: Sets, predictions: int, vocabulary: int, device: torch.device
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Bitsets [R, ceil(V / 32)] and their index [M], or None; and the masks [R, V]."""
    ids = torch.arange(vocabulary, device=device)
    a_tenth = (ids >= vocabulary // 2) & (ids < vocabulary // 2 + max(1, vocabulary // 10))
    if sets == "every":
        return None, None, torch.ones(1, vocabulary, dtype=torch.bool, device=device)
    if sets == "shared":
        return packed(a_tenth), None, a_tenth.unsqueeze(0)
    masks = torch.stack((a_tenth, ids % 3 == 1, torch.zeros_like(a_tenth)))
    index = torch.arange(predictions, device=device) % 3
    return torch.cat([packed(mask) for mask in masks]), index.int(), masks


def check_loss(session: Session, *, case: PredictionCase, regime: str, dtype: torch.dtype) -> None:
    """Losses, log-normalisers, and gradients of a sum of both, in one regime."""
    operands = operands_of(case, dtype, session.device)

    def results(operands: Operands, function: Callable[..., tuple[Tensor, Tensor]]) -> Results:
        loss, log_normaliser = function(
            *operands.projection(),
            operands.targets,
            **operands.sets(),
        )
        finite = torch.where(log_normaliser.isfinite(), log_normaliser, 0.0)
        total = loss.mean() + 0.1 * finite.mean()
        gradients = torch.autograd.grad(total, operands.leaves)
        return loss.detach(), log_normaliser.detach(), *gradients

    ours: Callable[..., tuple[Tensor, Tensor]] = partial(masked_cross_entropy, backend="triton")
    if case.way == branches.COMPILED_LOSS:
        torch.compiler.reset()
        backend = "aot_eager" if session.is_rehearsal else "inductor"
        ours = torch.compile(ours, fullgraph=True, backend=backend, dynamic=False)
    run = partial(results, operands, ours)
    if case.way == branches.REPLAYED_LOSS:
        inputs = [*operands.leaves, operands.targets]
        run = partial(correctness.replayed, run, inputs, [x.detach().flip(0) for x in inputs])

    def run_in_regime() -> Results:
        with forced_regime(regime):
            return run()

    names = ("loss", "log-normaliser", "hidden gradient", "weight gradient", "bias gradient")
    ways = [branches.REPEATED_ROWS] if case.has_repeated_rows else []
    comparison = Comparison(
        f"cross-entropy, {case}, {regime}",
        names[: 2 + len(operands.leaves)],
        run_in_regime,
        partial(results, operands.exact(), partial(masked_cross_entropy, backend="reference")),
        ways=(*ways, *filter(None, (case.way,))),
        precision=case.precision,
    )
    correctness.compare(session, dtype, comparison)


def check_likelihood(session: Session, *, case: PredictionCase, dtype: torch.dtype) -> None:
    """Log-probabilities of a few ids of each prediction."""
    operands = operands_of(case, dtype, session.device)
    generator = torch.Generator(session.device).manual_seed(1)
    ids = torch.randint(
        case.vocabulary, (case.predictions, 20), device=session.device, generator=generator
    )
    comparison = Comparison(
        f"token log-likelihood, {case}",
        ("log-probabilities",),
        partial(_likelihood, operands, ids, "triton"),
        partial(_likelihood, operands.exact(), ids, "reference"),
        precision=case.precision,
    )
    correctness.compare(session, dtype, comparison)


def check_top_k(session: Session, *, case: PredictionCase, k: int, dtype: torch.dtype) -> None:
    """The best log-probabilities, and what the reference says of the ids that they are of."""
    operands = operands_of(case, dtype, session.device)

    def results(operands: Operands, backend: str) -> tuple[Tensor, Tensor]:
        return top_k(
            *operands.projection(),
            k,
            **operands.sets(),
            backend=backend,
        )

    def run() -> Results:
        values, ids = results(operands, "triton")
        exists = (ids >= 0) & (ids < case.vocabulary)
        (at_ids,) = _likelihood(operands.exact(), torch.where(exists, ids, 0), "reference")
        at_ids = at_ids.masked_fill(~exists, torch.nan)
        # Where a set has fewer than k ids, the rest are of no id.
        return values, at_ids.masked_fill(values == -torch.inf, -torch.inf)

    def expected() -> Results:
        values, _ = results(operands.exact(), "reference")
        return values, values

    comparison = Comparison(
        f"top {k}, {case}",
        ("log-probabilities", "log-probabilities of the ids"),
        run,
        expected,
        precision=case.precision,
    )
    correctness.compare(session, dtype, comparison)


def check_softmax(
    session: Session, *, rows: int, vocabulary: int, sets: Sets, dtype: torch.dtype
) -> None:
    """Probabilities and the gradient of the scores."""
    generator = torch.Generator(session.device).manual_seed(0)
    scores, above = (
        torch.randn(rows, vocabulary, device=session.device, generator=generator).to(dtype)
        for _ in range(2)
    )
    allowed, index, _ = sets_of(sets, rows, vocabulary, session.device)
    assert allowed is not None

    def results(scores: Tensor, backend: str) -> Results:
        leaf = scores.detach().requires_grad_()
        found = masked_softmax(leaf, allowed, allowed_index=index, backend=backend)
        return found.detach(), *torch.autograd.grad(found, leaf, above.to(found.dtype))

    comparison = Comparison(
        f"masked softmax, M {rows}, V {vocabulary:,}, {sets} sets",
        ("probabilities", "gradient"),
        partial(results, scores, "triton"),
        partial(results, scores.double(), "reference"),
    )
    correctness.compare(session, dtype, comparison)


def _likelihood(operands: Operands, ids: Tensor, backend: str) -> Results:
    found = token_log_likelihood(
        *operands.projection(),
        ids,
        **operands.sets(),
        backend=backend,
    )
    return (found.detach(),)
