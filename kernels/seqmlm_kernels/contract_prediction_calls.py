"""Calls of cross-entropy and inference that the checks of `seqmlm_kernels.contract` make.

Vocabularies are chosen by the launches of the Triton kernels: one that is a single tile, one of
several tiles and parts, and one whose scores are more than a program holds of a row.
"""

# T tokens, E hidden size, V vocabulary, M predictions, R allowed sets, K ids of a prediction

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from seqmlm_kernels.allowed import AllowedSets
from seqmlm_kernels.contract_subject import (
    Layout,
    Results,
    Subject,
    assert_kind,
    assert_unchanged,
    gradients_of,
    laid_out,
    operands_of,
)

OPERANDS = ("hidden", "weight", "bias")
OUTPUTS = ("loss", "log-normaliser")


@dataclass(frozen=True)
class PredictionCase:
    """One selection of predictions over a vocabulary."""

    sets: Literal["every", "shared", "indexed"] = "every"
    vocabulary: int = 70
    predictions: int = 6
    tokens: int = 9
    hidden_size: int = 24
    has_bias: bool = True
    has_large_scores: bool = False
    index_dtype: torch.dtype = torch.int32


_SEVERAL_TILES = PredictionCase(vocabulary=300)
PREDICTION_CASES: Mapping[str, PredictionCase] = {
    "every id": PredictionCase(),
    "one set": PredictionCase("shared"),
    "sets": PredictionCase("indexed"),
    "no bias": PredictionCase(has_bias=False),
    "sets, no bias, int64 indices": PredictionCase(
        "indexed", has_bias=False, index_dtype=torch.int64
    ),
    "33 ids, one set": PredictionCase("shared", vocabulary=33),
    "1 id": PredictionCase(vocabulary=1),
    "large scores": PredictionCase("indexed", has_large_scores=True),
    "300 ids": _SEVERAL_TILES,
    "300 ids, one set": replace(_SEVERAL_TILES, sets="shared"),
    "300 ids, sets": replace(_SEVERAL_TILES, sets="indexed", hidden_size=64),
    "300 ids, no bias, int64 indices, large scores": replace(
        _SEVERAL_TILES, has_bias=False, index_dtype=torch.int64, has_large_scores=True
    ),
    "150 predictions, sets": PredictionCase("indexed", predictions=150, tokens=160),
    "150 predictions, 300 ids, sets": replace(
        _SEVERAL_TILES, sets="indexed", predictions=150, tokens=90
    ),
    "4,200 ids, sets": PredictionCase("indexed", vocabulary=4200, predictions=3, hidden_size=8),
}


@dataclass(frozen=True, eq=False)
class PredictionCall:
    """The operands in fp64, the selection and the sets of one call."""

    operands: Results
    rows: Tensor
    targets: Tensor
    allowed: AllowedSets | None
    above: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, subject: Subject, case: PredictionCase) -> PredictionCall:
        """Rows repeat, one row is not predicted; the last of several sets is empty, and used."""
        operands = {
            "hidden": subject.normal(case.tokens, case.hidden_size, seed=0),
            "weight": subject.normal(case.vocabulary, case.hidden_size, seed=1),
            "bias": subject.normal(case.vocabulary, seed=2),
        }
        if case.has_large_scores:
            # Integers of at most 256, which every dtype holds, whose exponentials nothing holds.
            operands["hidden"] = operands["hidden"].clamp(-1, 1).round()
            operands["weight"] = (operands["weight"] * 12).round()
            operands["bias"] = operands["bias"].round()
        if not case.has_bias:
            del operands["bias"]
        numbers = torch.arange(case.predictions)
        # The first and the last token, the next to last one never, and some more than once.
        rows = (numbers * 5 + case.tokens - 1) % case.tokens
        rows = torch.where(rows == case.tokens - 2, 0, rows).to(case.index_dtype)
        targets = ((numbers * 37 + 40) % case.vocabulary).to(case.index_dtype)
        allowed = _allowed_sets(case, targets, subject.device)
        of_loss, of_normaliser = (
            torch.linspace(*ends, case.predictions).to(subject.dtype).double().to(subject.device)
            for ends in ((0.5, 2.0), (-1.0, 0.5))
        )
        return cls(
            operands,
            rows.to(subject.device),
            targets.to(subject.device),
            allowed,
            (of_loss, of_normaliser),
        )

    def arguments(self, given: Results) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Hidden states, weight, bias and rows."""
        return given["hidden"], given["weight"], given.get("bias"), self.rows

    def cross_entropy(
        self,
        backend: Any,
        dtype: torch.dtype,
        *,
        layout: Layout = "contiguous",
        differentiated: Sequence[str] = OPERANDS,
        used: Sequence[str] = OUTPUTS,
    ) -> Results:
        """Loss, log-normaliser and gradients; those of a sum that weights predictions unlike.

        Args:
            used: of the results, what has a gradient from above.
        """
        leaves, given = operands_of(
            self.operands, dtype, layout=layout, differentiated=differentiated
        )
        selection = self._in_layout(layout)
        outputs = backend.masked_cross_entropy(
            *selection.arguments(given), selection.targets, selection.allowed
        )
        named = dict(zip(OUTPUTS, outputs, strict=True))
        for name, x in named.items():
            assert_kind(name, x, self.rows.shape, torch.promote_types(dtype, torch.float32))
        above = dict(zip(OUTPUTS, self.above, strict=True))
        gradients = gradients_of(
            [named[name] for name in used], leaves, [above[name] for name in used], layout
        )
        assert_unchanged(given, self.operands)
        return {**{name: x.detach() for name, x in named.items()}, **gradients}

    def log_likelihood(
        self, backend: Any, dtype: torch.dtype, ids: Tensor, *, layout: Layout = "contiguous"
    ) -> Results:
        """Log-probabilities of ids [M, K]."""
        _, given = operands_of(self.operands, dtype, layout=layout, differentiated=("weight",))
        selection = self._in_layout(layout)
        found = backend.token_log_likelihood(
            *selection.arguments(given), laid_out(ids, layout), selection.allowed
        )
        assert_kind(
            "log-probabilities", found, ids.shape, torch.promote_types(dtype, torch.float32)
        )
        assert not found.requires_grad, "a likelihood of inference has a gradient"
        assert_unchanged(given, self.operands)
        return {"log-probabilities": found}

    def top_k(
        self, backend: Any, dtype: torch.dtype, k: int, *, layout: Layout = "contiguous"
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and ids [M, k]."""
        _, given = operands_of(self.operands, dtype, layout=layout, differentiated=("weight",))
        selection = self._in_layout(layout)
        values, ids = backend.top_k(*selection.arguments(given), k, selection.allowed)
        shape = len(self.rows), k
        assert_kind("log-probabilities", values, shape, torch.promote_types(dtype, torch.float32))
        assert_kind("ids", ids, shape, torch.int64)
        assert not values.requires_grad, "a likelihood of inference has a gradient"
        assert_unchanged(given, self.operands)
        return values, ids

    def _in_layout(self, layout: Layout) -> PredictionCall:
        if layout == "contiguous":
            return self
        allowed = self.allowed
        if allowed is not None:
            index = None if allowed.index is None else laid_out(allowed.index, layout)
            allowed = AllowedSets(laid_out(allowed.words, layout), index)
        return replace(
            self,
            rows=laid_out(self.rows, layout),
            targets=laid_out(self.targets, layout),
            allowed=allowed,
        )


def _allowed_sets(
    case: PredictionCase, targets: Tensor, device: torch.device
) -> AllowedSets | None:
    """About half of the ids, in the middle none for whole tiles; each target is in its set."""
    if case.sets == "every":
        return None
    count = 1 if case.sets == "shared" else 3
    generator = torch.Generator().manual_seed(3)
    members = torch.rand(count, case.vocabulary, generator=generator) < 0.5
    members[:, case.vocabulary // 3 : 9 * case.vocabulary // 10] = False
    index = torch.arange(len(targets)) % max(1, count - 1)
    if count > 1:
        index[-1] = count - 1
    members[index, targets.long()] = True
    if count > 1:
        members[-1] = False
    words = packed(members).to(device)
    return AllowedSets(words, None if count == 1 else index.to(case.index_dtype).to(device))


def packed(members: Tensor) -> Tensor:
    """Bitsets [R, ceil(V / 32)] of [R, V] bool; the bits past V, which nobody may read, are set."""
    missing = -members.shape[1] % 32
    whole = torch.nn.functional.pad(members, (0, missing), value=True)
    words = (whole.view(len(whole), -1, 32).long() << torch.arange(32)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int()
