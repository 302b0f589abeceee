"""Masked cross-entropy on a GPU: errors, determinism, time and memory beside what torch has.

Needs torch, triton and this repository, nothing else:

    python benchmarks/gpu/cross_entropy.py --output cross_entropy.json

Times are medians of interleaved runs of forward and backward of the mean loss, so that a change
of clock falls on everyone alike. Memory is the peak above what was allocated before the call.
The peers have no sets of allowed ids: where a case has some, they mask the scores.
"""

# M predictions, V vocabulary, E hidden size

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
import triton
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernels"))

from seqmlm_kernels import masked_cross_entropy
from seqmlm_kernels.triton import projection_plan
from seqmlm_kernels.triton.rejected_targets import rejected_targets

CUDA = torch.device("cuda")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# Largest error against fp64 that is accepted, as a share of the largest expected number.
TOLERANCES = {"bf16": 2e-2, "fp16": 4e-3, "fp32": 2e-4}
REGIMES = ("one tile", "materialised", "recomputed")


@dataclass(frozen=True)
class Contestant:
    """A mean loss of `Operands`, and the regime in which the package's own is held."""

    loss: Callable[[Operands], Tensor]
    regime: str | None = None


@dataclass(frozen=True)
class Case:
    """One shape: ``allowed_share`` of the vocabulary, in one shared set; None without a set."""

    name: str
    tokens: int
    predictions: int
    vocabulary: int
    hidden_size: int
    allowed_share: float | None


CORRECTNESS = (
    Case("small vocabulary", 512, 300, 33, 256, None),
    Case("subword vocabulary", 512, 300, 5001, 192, None),
    Case("entities of one type", 512, 300, 5001, 192, 0.1),
)
TIMED = (
    Case("text, V 50,368", 32_768, 9830, 50_368, 768, None),
    Case("text, V 50,368, specials excluded", 32_768, 9830, 50_368, 768, 1.0),
    Case("text, 2,048 predictions", 8192, 2048, 50_368, 768, None),
    Case("protein, V 33", 32_768, 9830, 33, 1280, None),
    Case("entities, V 1 M, a tenth allowed", 8192, 4096, 1_000_000, 512, 0.1),
)


@dataclass(frozen=True, eq=False)
class Operands:
    """Leaves that require gradients, and what selects from them."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    rows: Tensor
    targets: Tensor
    words: Tensor | None
    mask: Tensor | None

    def leaves(self) -> tuple[Tensor, Tensor, Tensor]:
        """Tensors whose gradients are compared."""
        return self.hidden, self.weight, self.bias


def operands_of(case: Case, dtype: torch.dtype) -> Operands:
    """Random operands; allowed ids are one range, as the entities of one type are."""
    generator = torch.Generator(CUDA).manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=CUDA, generator=generator)

    hidden = normal(case.tokens, case.hidden_size).to(dtype).requires_grad_()
    weight = (normal(case.vocabulary, case.hidden_size) / case.hidden_size**0.5).to(dtype)
    bias = normal(case.vocabulary).to(dtype)
    rows = torch.randperm(case.tokens, device=CUDA, generator=generator)[: case.predictions]
    lowest, words, mask = 0, None, None
    highest = case.vocabulary
    if case.allowed_share is not None:
        lowest = 5 if case.allowed_share == 1.0 else case.vocabulary // 2
        highest = min(case.vocabulary, lowest + int(case.allowed_share * case.vocabulary))
        mask = torch.zeros(case.vocabulary, dtype=torch.bool, device=CUDA)
        mask[lowest:highest] = True
        words = packed(mask)
    targets = torch.randint(lowest, highest, (case.predictions,), device=CUDA, generator=generator)
    return Operands(
        hidden,
        weight.requires_grad_(),
        bias.requires_grad_(),
        rows.sort().values.int(),
        targets,
        words,
        mask,
    )


def packed(mask: Tensor) -> Tensor:
    """Bitset [1, ceil(V / 32)] of [V] bool."""
    bits = functional.pad(mask, (0, -len(mask) % 32)).view(-1, 32).long()
    words = (bits << torch.arange(32, device=mask.device)).sum(-1)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).int().unsqueeze(0)


def ours(operands: Operands) -> Tensor:
    """The package's function, on the Triton backend."""
    loss, _ = masked_cross_entropy(
        *operands.leaves(),
        operands.rows,
        operands.targets,
        allowed=operands.words,
        backend="triton",
    )
    return loss.mean()


def eager(operands: Operands) -> Tensor:
    """Linear, scores to fp32, cross-entropy."""
    hidden, weight, bias = operands.leaves()
    scores = functional.linear(hidden[operands.rows.long()], weight, bias).float()
    if operands.mask is not None:
        scores = scores.masked_fill(~operands.mask, -torch.inf)
    return functional.cross_entropy(scores, operands.targets)


def linear_cross_entropy(operands: Operands) -> Tensor:
    """torch.nn.functional.linear_cross_entropy in its chunked form, which takes no sets."""
    hidden, weight, bias = operands.leaves()
    return functional.linear_cross_entropy(
        hidden[operands.rows.long()],
        weight,
        operands.targets,
        linear_bias=bias,
        options=torch.nn.LinearCrossEntropyOptions(),
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


def regimes_of(case: Case) -> tuple[str, ...]:
    """Regimes that can run a case."""
    is_small = case.vocabulary <= projection_plan.ONE_TILE_VOCABULARY
    return REGIMES if is_small else REGIMES[1:]


def results_of(contestant: Contestant, operands: Operands) -> list[Tensor]:
    """Loss and gradients."""
    with nullcontext() if contestant.regime is None else forced_regime(contestant.regime):
        value = contestant.loss(operands)
        return [value.detach(), *torch.autograd.grad(value, operands.leaves())]


def check(case: Case, dtype_name: str) -> list[dict[str, Any]]:
    """Errors against fp64 on the same rounded inputs, and whether a second run is bit-equal."""
    operands = operands_of(case, DTYPES[dtype_name])
    hidden, weight, bias = (x.detach().double().requires_grad_() for x in operands.leaves())
    exact = replace(operands, hidden=hidden, weight=weight, bias=bias)
    expected = results_of(Contestant(exact_loss), exact)
    rows = []
    for regime in regimes_of(case):
        first = results_of(Contestant(ours, regime), operands)
        second = results_of(Contestant(ours, regime), operands)
        error = max(
            float((x.double() - y).abs().max() / y.abs().max())
            for x, y in zip(first, expected, strict=True)
        )
        rows.append(
            {
                "case": case.name,
                "dtype": dtype_name,
                "regime": regime,
                "error": error,
                "accepted": error <= TOLERANCES[dtype_name],
                "deterministic": all(torch.equal(x, y) for x, y in zip(first, second, strict=True)),
            }
        )
    return rows


def exact_loss(operands: Operands) -> Tensor:
    """The definition of correct, in the dtype of its operands."""
    loss, _ = masked_cross_entropy(
        *operands.leaves(),
        operands.rows,
        operands.targets,
        allowed=operands.words,
        backend="reference",
    )
    return loss.mean()


def contestants(case: Case) -> Mapping[str, Contestant]:
    """Everyone who can run a case."""
    named = {"seqmlm": Contestant(ours)}
    for regime in regimes_of(case):
        named[f"seqmlm, {regime}"] = Contestant(ours, regime)
    named["eager"] = Contestant(eager)
    named["torch.compile"] = Contestant(torch.compile(eager, dynamic=False))
    if case.allowed_share is None and hasattr(functional, "linear_cross_entropy"):
        named["F.linear_cross_entropy"] = Contestant(linear_cross_entropy)
    return named


def extra_memory_bytes(contestant: Contestant, operands: Operands) -> int:
    """Peak of forward and backward above what was there, gradients included."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    results_of(contestant, operands)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def time_once_ms(contestant: Contestant, operands: Operands) -> float:
    """Forward and backward, with the launches of the host."""
    start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    results_of(contestant, operands)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def race(case: Case, rounds: int) -> list[dict[str, Any]]:
    """Medians of interleaved runs in bf16; who runs out of memory is reported so."""
    operands = operands_of(case, torch.bfloat16)
    memory: dict[str, int | None] = {}
    runners: dict[str, Contestant] = {}
    for name, contestant in contestants(case).items():
        try:
            for _ in range(3):
                results_of(contestant, operands)
            memory[name] = extra_memory_bytes(contestant, operands)
            runners[name] = contestant
        except torch.OutOfMemoryError:
            memory[name] = None
            torch.cuda.empty_cache()
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, contestant in runners.items():
            times[name].append(time_once_ms(contestant, operands))
    return [
        {
            "case": case.name,
            "contestant": name,
            "median_ms": statistics.median(times[name]) if name in times else None,
            "extra_mib": None if peak is None else peak / 2**20,
        }
        for name, peak in memory.items()
    ]


def environment() -> dict[str, Any]:
    """Card and versions, without which the numbers mean nothing."""
    return {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "cases": [asdict(case) for case in TIMED],
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    """Columns as wide as their widest cell."""
    cells = [list(rows[0]), *([_cell(x) for x in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print()


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 0.1 else f"{value:.2f}"
    return "out of memory" if value is None else str(value)


def main() -> int:
    """Print both tables, write them, and fail if a result is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--rounds", type=int, default=30, help="timed runs of each contestant")
    arguments = parser.parse_args()
    rejected_targets(CUDA).zero_()
    checks = [row for case in CORRECTNESS for name in DTYPES for row in check(case, name)]
    print_table(checks)
    races = []
    for case in TIMED:
        races += race(case, arguments.rounds)
        torch.cuda.empty_cache()
    print_table(races)
    if arguments.output is not None:
        report = {"environment": environment(), "checks": checks, "races": races}
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    num_rejected = int(rejected_targets(CUDA))
    print(f"rejected targets: {num_rejected}")
    is_right = all(row["accepted"] and row["deterministic"] for row in checks)
    return 0 if is_right and num_rejected == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
