"""How long a completion takes in real files, and what memory it needs.

500 names of Python's library and its tests, files of up to 200 kB, long ones more often, each
hidden in its file and asked for after an edit: the text is new to the completer every time, as it
is after a keystroke. Server and transport are not in it.

``python -m benchmarks.code_latency --run RUN``, with a run that ``seqmlm code fit`` has fitted.
"""

from __future__ import annotations

import argparse
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.record import (
    RESULTS,
    describe_machine,
    peak_memory_mib,
    print_table,
    write_result,
)
from seqmlm.data.report import ReadReport
from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.completion import CompletionRequest, CompletionResult
from seqmlm_domains.code.completion.hidden_names import HiddenName, draw_hidden_names
from seqmlm_domains.code.completion.project_fitting import read_files
from seqmlm_domains.code.domain import CodeDomain

NAME = "code_latency"
LARGEST_FILE = 200_000
WARM_UP = 10


def main() -> None:
    """Measure and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=500)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    machine = describe_machine()
    hidden = _hidden_names(given.positions)
    before = peak_memory_mib()
    completer = Completer.load(given.run)

    def with_model(request: CompletionRequest) -> CompletionResult:
        return completer.complete_batch([request])[0]

    kinds: dict[str, tuple[Callable[[CompletionRequest], CompletionResult], bool]] = {
        "both sides": (with_model, True),
        "left": (with_model, False),
        "lexical, both sides": (completer.complete_lexically, True),
    }
    rounds = {
        kind: _measure(hidden, answer, both_sides=both_sides)
        for kind, (answer, both_sides) in kinds.items()
    }
    summary = {
        kind: {
            f"{clock}_ms_p{share}": float(np.percentile([pair[clock] for pair in pairs], share))
            for clock in ("wall", "cpu")
            for share in (50, 95, 99)
        }
        for kind, pairs in rounds.items()
    }
    memory = {"before_loading_mib": before, "peak_mib": peak_memory_mib()}
    sizes = [len(name.tokens.text) for name in hidden]
    print_table(
        f"{len(hidden)} completions in files of up to {max(sizes):,} characters",
        ("milliseconds", *next(iter(summary.values()))),
        [[kind, *(f"{value:.1f}" for value in of.values())] for kind, of in summary.items()],
    )
    print(f"memory, MiB: {memory}")
    write_result(
        NAME,
        given.results,
        machine=machine,
        settings={"run": given.run, "positions": len(hidden), "largest_file": LARGEST_FILE},
        rounds=rounds,
        summary={**summary, "memory": memory},
    )


def _hidden_names(count: int) -> list[HiddenName]:
    """Names of the library and its tests, of long files more than of short ones."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = [
        path
        for path in sorted(library.rglob("*.py"))
        if "site-packages" not in path.parts and path.stat().st_size <= LARGEST_FILE
    ]
    files = read_files(paths, CodeDomain(), ReadReport())
    return draw_hidden_names(files, count, generator=np.random.default_rng(0))


def _measure(
    hidden: list[HiddenName],
    answer: Callable[[CompletionRequest], CompletionResult],
    *,
    both_sides: bool,
) -> list[dict[str, float]]:
    measured = []
    order = np.random.default_rng(1).permutation(len(hidden)).tolist()
    for number in [*order[:WARM_UP], *order]:
        name = hidden[number]
        start, end = name.tokens.span(name.piece)
        text = name.tokens.text
        request = CompletionRequest(
            source=text[:start] + (text[end:] if both_sides else ""),
            offset=start,
            language=name.tokens.language,
        )
        wall, cpu = time.perf_counter(), time.process_time()
        answer(request)
        measured.append(
            {
                "wall": (time.perf_counter() - wall) * 1e3,
                "cpu": (time.process_time() - cpu) * 1e3,
                "characters": float(len(request.source)),
            }
        )
    return measured[WARM_UP:]


if __name__ == "__main__":
    main()
