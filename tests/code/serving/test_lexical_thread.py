"""The queue lets lexical answers run beside the model's: the completer must bear that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seqmlm_domains.code.completion.completer import Completer
from seqmlm_domains.code.completion.completion import CompletionRequest, CompletionResult


def test_lexical_answers_beside_a_forward_pass_are_those_of_the_text_asked_about(
    code_run: Path,
) -> None:
    completer = Completer.load(code_run)
    # More texts than the completer keeps, each asked about several times.
    requests = [
        CompletionRequest(source=text, offset=len(text), language="python")
        for text in (f"first_{number} = last_{number} = 1\nfirst_" for number in range(24))
    ] * 4

    def by_model(request: CompletionRequest) -> CompletionResult:
        return completer.complete_batch([request])[0]

    with ThreadPoolExecutor(1) as inference, ThreadPoolExecutor(1) as lexical:
        modelled = [inference.submit(by_model, request) for request in requests]
        lexically = [lexical.submit(completer.complete_lexically, request) for request in requests]
        for answers in (modelled, lexically):
            names = [answer.result().completions[0].text for answer in answers]
            assert names == [f"first_{number % 24}" for number in range(len(requests))]
