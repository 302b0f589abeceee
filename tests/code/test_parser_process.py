"""A real child process that is really ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from seqmlm.errors import ConfigError
from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.syntax import parse_text

TEXT = "def f(caf\u00e9):\n    return caf\u00e9.x\n"


@pytest.fixture
def parser() -> Iterator[ParserProcess]:
    with ParserProcess(timeout_s=20.0) as made:
        yield made


def test_the_child_finds_what_the_parser_finds_here(parser: ParserProcess) -> None:
    text = TEXT + "x: int = 1\ny: List[str] = x\n"
    there, here = parser.parse(text, "python"), parse_text(text, "python")
    assert (there.identifiers == here.identifiers).all()
    assert there.declared_types.names == here.declared_types.names == ("int", "List")
    assert (there.declared_types.numbers == here.declared_types.numbers).all()
    empty = parser.parse("", "java")
    assert (empty.identifiers.shape, empty.declared_types.numbers.shape) == ((0, 3), (0,))


def test_a_killed_child_costs_one_text_and_is_started_again(parser: ParserProcess) -> None:
    parser.parse(TEXT, "python")
    first = parser.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ParsingFailed, match="SIGKILL"):
        parser.parse(TEXT, "python")
    assert len(parser.parse(TEXT, "python").identifiers) == 4
    assert parser.process_id != first


def test_a_child_that_hangs_is_ended_after_the_time_limit() -> None:
    with ParserProcess(timeout_s=0.2) as parser:
        parser.parse("x", "python")
        child = parser.process_id
        assert child is not None
        os.kill(child, signal.SIGSTOP)
        with pytest.raises(ParsingFailed, match=r"more than 0\.2 s"):
            parser.parse(TEXT * 10_000, "python")  # more than a pipe holds
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.skipif(os.name == "nt", reason="address space is not limited on Windows")
def test_a_text_beyond_the_memory_limit_ends_the_child_alone() -> None:
    with ParserProcess(memory_mib=256) as parser:
        with pytest.raises(ParsingFailed, match=r"ended by|out of memory"):
            parser.parse("[" * 2_000_000, "python")
        assert len(parser.parse(TEXT, "python").identifiers) == 4


def test_closing_ends_the_child() -> None:
    with ParserProcess() as parser:
        parser.parse("x", "python")
        child = parser.process_id
    assert child is not None
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.parametrize("limits", [{"timeout_s": 0.0}, {"memory_mib": 10}])
def test_limits_under_which_nothing_can_be_parsed_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limits))):
        ParserProcess(**limits)
