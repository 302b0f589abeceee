"""What the language server adds to the completer: a key and a completion, over standard streams.

Names in files of Python's library, each removed but for its first character, which is then typed:
an incremental edit and a request, to the answer's arrival at a client written in Python. Beside it
the same requests to a completer in this process, and ``completionItem/resolve``, which needs no
completer: the transport alone.

``python -m benchmarks.code_server_overhead --run RUN``
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
from lsprotocol import types
from pygls.lsp.client import LanguageClient

from benchmarks.record import (
    RESULTS,
    describe_machine,
    peak_memory_mib,
    print_table,
    write_result,
)
from seqmlm.data.report import ReadReport
from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.completion import CompletionRequest
from seqmlm_domains.code.completion.hidden_names import HiddenName, draw_hidden_names
from seqmlm_domains.code.completion.project_fitting import read_files
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.serving.positions import units_from_column

NAME = "code_server_overhead"
LARGEST_FILE = 200_000
WARM_UP = 10
NEVER_MS: Final = 60_000
"""Deadline: the model always answers, so that both sides do the same work."""
_NO_ITEM: Final = types.CompletionItem(label="none")


def main() -> None:
    """Measure and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    machine = describe_machine()
    library = Path(sysconfig.get_path("stdlib"))
    files = [
        tokens
        for tokens in read_files(sorted(library.glob("*.py")), CodeDomain(), ReadReport())
        if len(tokens.text.encode()) <= LARGEST_FILE
    ]
    hidden = draw_hidden_names(files, given.positions, generator=np.random.default_rng(0))
    rounds, memory_mib = asyncio.run(_measure(given.run, hidden))
    shares = (50, 95, 99)
    summary = {
        kind: {f"p{share}_ms": float(np.percentile(times, share)) for share in shares}
        for kind, times in rounds.items()
    }
    print_table(
        f"{len(hidden)} completions",
        ("milliseconds", *(f"p{share}" for share in shares)),
        [[kind, *(f"{value:.2f}" for value in of.values())] for kind, of in summary.items()],
    )
    print(f"peak memory of the server: {memory_mib:,.0f} MiB")
    write_result(
        NAME,
        given.results,
        machine=machine,
        settings={"run": given.run, "positions": len(hidden), "largest_file": LARGEST_FILE},
        rounds=rounds,
        summary={**summary, "server_peak_memory_mib": memory_mib},
    )


async def _measure(run: Path, hidden: list[HiddenName]) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of each request, and the server's peak memory in MiB."""
    completer = Completer.load(run)
    client = LanguageClient(NAME, "1")
    is_loaded = asyncio.Event()

    def hear(told: types.LogMessageParams) -> None:
        if "ready" in told.message:
            is_loaded.set()

    client.feature(types.WINDOW_LOG_MESSAGE)(hear)
    await client.start_io(
        *(sys.executable, "-m", "seqmlm", "code", "serve", str(run), "--lsp"),
        *("--set", f"deadline_ms={NEVER_MS}"),
    )
    await client.initialize_async(
        types.InitializeParams(capabilities=types.ClientCapabilities(), root_uri=None)
    )
    client.initialized(types.InitializedParams())
    await is_loaded.wait()
    times: dict[str, list[float]] = {
        kind: [] for kind in ("key and completion", "completer alone", "difference", "resolve")
    }
    for number, name in enumerate([*hidden[:WARM_UP], *hidden]):
        typed_ms, items = await _type_and_complete(client, name, uri=f"file:///{number}.py")
        began_at = time.perf_counter()
        await client.completion_item_resolve_async(items[0] if items else _NO_ITEM)
        times["resolve"].append((time.perf_counter() - began_at) * 1e3)
        # One after the other, so that both meet the same load of the machine.
        alone_ms = _complete_alone(completer, name)
        times["key and completion"].append(typed_ms)
        times["completer alone"].append(alone_ms)
        times["difference"].append(typed_ms - alone_ms)
    assert client._server is not None
    memory_mib = peak_memory_mib(client._server.pid)
    await client.shutdown_async(None)
    client.exit(None)
    await client.stop()  # type: ignore[no-untyped-call]
    return {kind: measured[WARM_UP:] for kind, measured in times.items()}, memory_mib


async def _type_and_complete(
    client: LanguageClient, name: HiddenName, *, uri: str
) -> tuple[float, list[types.CompletionItem]]:
    start, end = name.tokens.span(name.piece)
    text = name.tokens.text[:start] + name.tokens.text[end:]
    client.text_document_did_open(
        types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "python", 1, text))
    )
    line = text.count("\n", 0, start)
    line_start = text[text.rfind("\n", 0, start) + 1 : start]
    character = units_from_column(line_start, len(line_start), "utf-16")
    place, after = types.Position(line, character), types.Position(line, character + 1)
    # The server has read the document before the clock starts.
    await client.completion_item_resolve_async(_NO_ITEM)
    began_at = time.perf_counter()
    client.text_document_did_change(
        types.DidChangeTextDocumentParams(
            types.VersionedTextDocumentIdentifier(2, uri),
            [types.TextDocumentContentChangePartial(types.Range(place, place), name.name[0])],
        )
    )
    answer: Any = await client.text_document_completion_async(
        types.CompletionParams(types.TextDocumentIdentifier(uri), after)
    )
    elapsed_ms = (time.perf_counter() - began_at) * 1e3
    client.text_document_did_close(
        types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri))
    )
    return elapsed_ms, list(answer.items)


def _complete_alone(completer: Completer, name: HiddenName) -> float:
    """Milliseconds of the same request to a completer of this process."""
    start, end = name.tokens.span(name.piece)
    text = name.tokens.text
    request = CompletionRequest(
        source=text[:start] + name.name[0] + text[end:],
        offset=start + 1,
        language=name.tokens.language,
    )
    began_at = time.perf_counter()
    completer.complete_batch([request])
    return (time.perf_counter() - began_at) * 1e3


if __name__ == "__main__":
    main()
