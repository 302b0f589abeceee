"""What the kernels are to reach, as ratios of medians of one run, and what a run says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import attention, cross_entropy, rotary, training_step
from benchmarks.gpu.attention import (
    BACKWARD,
    BOTH,
    FLEX,
    FLEX_REBUILT,
    FORWARD,
    PADDED,
    REBUILT,
    equal_case,
    packed_case,
)

QUANTITIES = {
    "median_ms": "time with launches",
    "graph_ms": "time of a CUDA graph",
    "extra_mib": "memory",
}


@dataclass(frozen=True)
class Goal:
    """``ours`` is to be at least so many times as fast as ``peer`` in a case.

    Args:
        peer: a contestant; or PEAK, of whose operations ours is to do a share of ``factor``.
        factor: how many times; None to be told the ratio alone.
        quantity: a key of QUANTITIES; of memory ours may have at most 1 / ``factor``.
        peer_case: in which the peer is, if that is another.
    """

    case: str
    peer: str
    factor: float | None
    ours: str = "seqmlm"
    quantity: str = "median_ms"
    peer_case: str | None = None


def _equal_goals() -> Iterable[Goal]:
    for head_dim, flash, cudnn in ((64, 1.2, 0.95), (128, 1.1, 0.7)):
        for length in sorted(attention.LENGTHS):
            yield Goal(equal_case(head_dim, length, FORWARD), "SDPA flash", flash)
            yield Goal(equal_case(head_dim, length, FORWARD), "SDPA cuDNN", cudnn)
    yield Goal(equal_case(64, 512, FORWARD), "SDPA flash", 1.15)
    for head_dim, flash, cudnn in ((64, 1.0, 0.7), (128, 0.95, 0.6)):
        for length in sorted(attention.LENGTHS):
            yield Goal(equal_case(head_dim, length, BACKWARD), "SDPA flash", flash)
            yield Goal(equal_case(head_dim, length, BACKWARD), "SDPA cuDNN", cudnn)
            atomic = equal_case(head_dim, length, BACKWARD)
            yield Goal(atomic, "seqmlm", None, ours=attention.ATOMIC)


def _growth_of_memory() -> Goal:
    """Twice the tokens, twice the memory; of an L x L mask four times as much."""
    half, whole = map(attention.long_row_case, attention.LONG_CONTEXTS)
    return Goal(whole, REBUILT, 0.45, ours=REBUILT, quantity="extra_mib", peer_case=half)


# Launches of the host are most of the time: their share is no merit or fault of the kernels alone.
_OF_SMALL_CASES = ("median_ms", "graph_ms")
PEAK = "peak of the card, dense bf16"
_MIXED = ("text", "proteins", attention.ONE_LONG)
_STEP = "Hugging Face, SDPA + compile"
_PLAIN = "plain torch, padded, SDPA + compile"
GOALS: Sequence[Goal] = (
    *_equal_goals(),
    *(Goal(packed_case(data, FORWARD), "torch varlen", 1.15) for data in _MIXED),
    *(Goal(packed_case(data, BOTH), "torch varlen", 1.05) for data in _MIXED),
    *(
        Goal(packed_case(data, mode), "torch varlen", 2.0, quantity=quantity)
        for data in ("identifiers", "triples")
        for mode in (FORWARD, BOTH)
        for quantity in _OF_SMALL_CASES
    ),
    Goal(packed_case("text", FORWARD), FLEX, 1.05),
    Goal(packed_case("text", FORWARD), FLEX_REBUILT, 2.0, ours=REBUILT),
    Goal(packed_case("text", BOTH), PADDED, 2.0, ours=REBUILT),
    Goal(attention.WINDOW_CASE, "seqmlm", 12.0, peer_case=attention.ALL_CASE),
    Goal(attention.PSEUDO_MASKED, FLEX_REBUILT, 2.0, ours=REBUILT),
    Goal(attention.PSEUDO_MASKED, PADDED, 4.0, ours=REBUILT),
    _growth_of_memory(),
    Goal(cross_entropy.TEXT, "eager", 1.3),
    Goal(cross_entropy.TEXT, "eager", 10.0, quantity="extra_mib"),
    Goal(cross_entropy.TEXT, "torch.compile", 0.85),
    Goal(cross_entropy.TEXT, "Liger", 1.5),
    Goal(cross_entropy.TEXT, "cut cross-entropy", 1.0),
    *(Goal(cross_entropy.PROTEIN, "torch.compile", 1.5, quantity=name) for name in _OF_SMALL_CASES),
    Goal(cross_entropy.ENTITIES, "eager", 4.0),
    *(
        Goal(case, peer, 1.8)
        for case in (training_step.TEXT_CASE, training_step.PROTEIN_CASE)
        for peer in (_STEP, _PLAIN)
    ),
    *(Goal(case, PEAK, 0.35) for case in (training_step.TEXT_CASE, training_step.PROTEIN_CASE)),
    *(
        Goal(case, peer, None, quantity=quantity)
        for case, peer in (
            (rotary.ALONE, rotary.PLAIN),
            (rotary.ALONE, rotary.COMPILED),
            (rotary.PROJECTED, rotary.COMPILED),
            (rotary.PROJECTED, rotary.WITHOUT),
        )
        for quantity in _OF_SMALL_CASES[: 1 if peer == rotary.PLAIN else 2]
    ),
)


def outcomes(
    times: Sequence[Mapping[str, Any]], *, peak_tflops: float | None
) -> list[dict[str, Any]]:
    """One row per goal: ratio and verdict, or why there is none.

    Args:
        peak_tflops: of the card; None where it is not known.
    """
    found = {(row["case"], row["contestant"]): row for row in times}
    return [_outcome(goal, found, peak_tflops) for goal in GOALS]


def _outcome(
    goal: Goal, found: Mapping[tuple[str, str], Mapping[str, Any]], peak_tflops: float | None
) -> dict[str, Any]:
    ours = found.get((goal.case, goal.ours), {})
    peer = found.get((goal.peer_case or goal.case, goal.peer), {})
    row: dict[str, Any] = {
        "case": goal.case,
        "ours": goal.ours,
        "peer": goal.peer_case or goal.peer,
        "quantity": _quantity(goal),
        "goal": goal.factor,
        "ratio": None,
        "verdict": "not measured",
    }
    if goal.peer == PEAK:
        # Of the higher, the better: the inverse of a time.
        mine, theirs = peak_tflops, ours.get("tflops")
    else:
        mine, theirs = ours.get(goal.quantity), peer.get(goal.quantity)
    if mine is None or theirs is None:
        row["reason"] = ours.get("failure") or peer.get("failure")
        return row
    row["ratio"] = theirs / max(mine, 1e-9)
    if goal.factor is None:
        row["verdict"] = "no goal"
    else:
        row["verdict"] = "reached" if row["ratio"] >= goal.factor else "missed"
    return row


def _quantity(goal: Goal) -> str:
    if goal.peer == PEAK:
        return "operations"
    return QUANTITIES[goal.quantity]
