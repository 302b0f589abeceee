"""Dialogues as encodings: turns, roles, the response, and what is cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record, TokenBlock
from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.registry import DOMAINS, OBJECTIVES
from seqmlm.testing import check_domain
from seqmlm_domains.text.dialogue import DialogueDomain
from seqmlm_domains.text.dialogue_reader import Turn

TALK = [("ann", "hi bob"), ("bob", "hi"), ("cy", "who am i"), ("ann", "cy")]


def record(turns: Sequence[Turn]) -> Record:
    return Record("talk:1", json.dumps(turns), "talk.jsonl", 1)


def learned(turns: Sequence[Turn] = TALK, **options: Any) -> DialogueDomain:
    domain = DialogueDomain(**{"tokenizer": "character"} | options)
    domain.fit_tokenizer([record(turns)])
    return domain


def tokenized(domain: DialogueDomain, turns: Sequence[Turn]) -> tuple[TokenBlock, ReadReport]:
    report = ReadReport(read=1)
    return domain.tokenize([record(turns)], report), report


def encoded(
    domain: DialogueDomain, turns: Sequence[Turn] = TALK, *, max_length: int = 100, seed: int = -1
) -> Encoding:
    """With the last turn as response, or one that is drawn."""
    generator = None if seed < 0 else np.random.default_rng(seed)
    tokens = tokenized(domain, turns)[0].tokens
    return domain.assemble(tokens, max_length=max_length, generator=generator)


def roles_of_turns(domain: DialogueDomain, encoding: Encoding) -> list[int]:
    """The role of each turn, after checking that all its tokens have it."""
    assert encoding.role_ids is not None
    ends = np.flatnonzero(encoding.ids == domain.vocabulary.special.end)
    turns = [turn for turn in np.split(encoding.role_ids, ends + 1) if len(turn)]
    assert all(len(set(turn.tolist())) == 1 for turn in turns)
    return [int(turn[0]) for turn in turns]


def turns_of(domain: DialogueDomain, encoding: Encoding) -> list[str]:
    return domain.decode(encoding.ids.tolist()).split("\n")


def test_the_domain_is_found_by_its_name() -> None:
    assert DOMAINS.load("dialogue") is DialogueDomain


@pytest.mark.parametrize("tokenizer", ["bpe", "wordpiece", "unigram", "character"])
def test_every_tokenizer_keeps_the_contract(tokenizer: Any, tmp_path: Path) -> None:
    contents = [record(TALK).content, record([("x", "bob?"), ("y", "i am!")]).content]
    check_domain(DialogueDomain(tokenizer=tokenizer), contents, folder=tmp_path)


def test_options_rebuild_the_domain() -> None:
    options = {
        "tokenizer": "unigram",
        "vocabulary_size": 500,
        "lowercase": True,
        "unmaskable_words": ["<unk>"],
        "chinese_units": "word",
        "file_format": "script",
        "turns_field": "messages",
        "speaker_line": "(.*):",
        "turns_per_record": 6,
        "roles": 3,
    }
    assert dict(DialogueDomain(**options).options) == options  # type: ignore[arg-type]


@pytest.mark.parametrize("roles", [1, 257, "2"])
def test_there_are_at_least_the_responder_and_another(roles: Any) -> None:
    with pytest.raises(ConfigError, match=r"domain\.roles is .*from 2"):
        DialogueDomain(roles=roles)


def test_every_turn_ends_with_a_separator_and_the_last_one_is_the_response() -> None:
    domain = learned()
    encoding = encoded(domain)
    special = domain.vocabulary.special
    assert turns_of(domain, encoding) == ["hi bob", "hi", "who am i", "cy"]
    ends = np.flatnonzero(encoding.ids == special.end)
    assert ends.tolist() == [7, 10, 19, 22]
    assert encoding.ids[0] == special.start
    assert encoding.response_start == 20
    assert encoding.segment_ids.tolist() == [0] * 20 + [1] * 3
    assert encoding.position_ids is None, "positions are contiguous"
    units = encoding.unit_ids.tolist()
    assert units == [-1, 0, 0, 1, 2, 2, 2, -1, 3, 3, -1, 4, 4, 4, 5, 6, 6, 7, 8, -1, 9, 9, -1]


def test_the_responder_is_0_and_the_others_count_from_the_last_to_speak() -> None:
    domain = learned()
    assert roles_of_turns(domain, encoded(domain)) == [0, 2, 1, 0]


def test_speakers_beyond_the_roles_share_the_last_one_and_are_counted() -> None:
    domain = learned(roles=2)
    assert roles_of_turns(domain, encoded(domain)) == [0, 1, 1, 0]
    notes = tokenized(domain, TALK)[1].notes
    assert notes == {"speaker beyond domain.roles, with a shared role": 1}


@given(names=st.permutations(["ann", "bob", "cy", "dee"]))
def test_the_names_of_the_speakers_are_not_stored(names: list[str]) -> None:
    domain = learned()
    renamed = dict(zip(["ann", "bob", "cy"], names, strict=False))
    tokens = tokenized(domain, [(renamed[speaker], text) for speaker, text in TALK])[0].tokens
    assert np.array_equal(tokens, tokenized(domain, TALK)[0].tokens)


def test_any_turn_but_the_first_is_drawn_as_response_equally_often(
    chi_square_p: Callable[[object, object], float],
) -> None:
    domain = learned()
    drawn = [len(turns_of(domain, encoded(domain, seed=seed))) for seed in range(600)]
    counts = np.bincount(drawn, minlength=5)
    assert counts[:2].tolist() == [0, 0]
    assert chi_square_p(counts[2:], [200] * 3) > 1e-3


def test_roles_are_those_before_the_drawn_response() -> None:
    domain = learned()
    by_turns = {
        len(turns_of(domain, encoding)): roles_of_turns(domain, encoding)
        for encoding in (encoded(domain, seed=seed) for seed in range(30))
    }
    assert by_turns == {2: [1, 0], 3: [2, 1, 0], 4: [0, 2, 1, 0]}


@pytest.mark.parametrize(
    ("max_length", "turns"),
    [
        (23, ["hi bob", "hi", "who am i", "cy"]),
        (22, ["hi", "who am i", "cy"]),
        (16, ["hi", "who am i", "cy"]),
        (15, ["who am i", "cy"]),
        (13, ["who am i", "cy"]),
        (12, ["ho am i", "cy"]),
        (6, ["i", "cy"]),
        (5, ["i", "cy"]),
        (4, ["", "cy"]),
        (3, ["", "c"]),
    ],
)
def test_a_context_that_is_too_long_loses_its_oldest_turns_first(
    max_length: int, turns: list[str]
) -> None:
    domain = learned()
    encoding = encoded(domain, max_length=max_length)
    assert len(encoding) <= max_length
    assert turns_of(domain, encoding) == turns
    assert roles_of_turns(domain, encoding)[-1] == 0


def test_a_response_that_is_too_long_loses_its_end_and_keeps_half_of_the_room() -> None:
    domain = learned()
    encoding = encoded(domain, [("a", "hi bob"), ("b", "who am i who am i")], max_length=11)
    assert turns_of(domain, encoding) == [" bob", "who a"]
    assert encoding.ids[-1] != domain.vocabulary.special.end


@given(
    lengths=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    max_length=st.integers(3, 60),
    seed=st.integers(0, 50),
)
def test_every_window_holds_a_context_and_a_response(
    lengths: list[int], max_length: int, seed: int
) -> None:
    domain = learned()
    turns = [(str(number % 3), "c" * length) for number, length in enumerate(lengths)]
    encoding = encoded(domain, turns, max_length=max_length, seed=seed)
    assert encoding.response_start is not None
    assert encoding.role_ids is not None
    assert 1 < encoding.response_start < len(encoding) <= max_length
    assert (encoding.role_ids[encoding.response_start :] == 0).all()
    assert encoding.role_ids.max() < domain.num_roles


def test_a_window_without_room_for_two_turns_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.max_length is 2"):
        encoded(learned(), max_length=2)


def test_a_dialogue_whose_responses_hold_nothing_to_predict_is_dropped() -> None:
    block, report = tokenized(learned(), [("a", "hi"), ("b", "\u4f60"), ("a", "\u597d")])
    assert block.lengths.tolist() == [0]
    assert report.dropped == {"responses of nothing but unknown or unmaskable words": 1}
    block, report = tokenized(learned(), [("a", "\u4f60"), ("b", "hi")])
    assert report.notes == {"unknown token": 1}


def test_the_ends_of_turns_need_room_beyond_the_vocabulary() -> None:
    assert DialogueDomain(vocabulary_size=2**15 - 256).token_dtype is np.uint16
    assert DialogueDomain(vocabulary_size=2**15 - 255).token_dtype is np.uint32


def test_stored_dialogues_part_between_turns() -> None:
    domain = learned()
    starts = domain.segment_starts(tokenized(domain, TALK)[0].tokens)
    assert np.flatnonzero(starts).tolist() == [0, 7, 10, 19]


def test_typed_lines_are_turns_of_two_speakers_and_the_last_one_is_the_response() -> None:
    domain = learned()
    encoding = domain.parse("hi\n\nwho\nbob [MASK]")
    assert turns_of(domain, encoding)[:2] == ["hi", "who"]
    assert roles_of_turns(domain, encoding) == [0, 1, 0]
    assert encoding.response_start == 8
    assert encoding.offsets is not None
    assert encoding.offsets.tolist()[5:8] == [[5, 6], [6, 7], [0, 0]]


def test_a_line_break_at_the_end_asks_for_a_response() -> None:
    domain = learned()
    encoding = domain.parse("hi\nwho\n")
    assert roles_of_turns(domain, encoding) == [0, 1]
    assert encoding.response_start == len(encoding)
    assert not encoding.segment_ids.any()


def test_a_line_alone_is_to_be_answered() -> None:
    """Failed before: it was taken for the response, to which nothing was left to add."""
    domain = learned()
    alone, asked = domain.parse("hi"), domain.parse("hi\n")
    assert alone.response_start == asked.response_start == len(alone)
    assert roles_of_turns(domain, alone) == [1]


@pytest.mark.parametrize(
    "written",
    ['[{"speaker": "ann", "text": "hi"}, {"speaker": "bob", "text": "who"}]',
     ' {"turns": [{"speaker": 1, "text": "hi"}, {"speaker": 2, "text": " who "}]}\n'],
    ids=["list", "object"],
)  # fmt: skip
def test_typed_json_is_a_context_for_whoever_spoke_before(written: str) -> None:
    domain = learned()
    found, lines = domain.parse(written), domain.parse("hi\nwho\n")
    assert np.array_equal(found.ids, lines.ids)
    assert roles_of_turns(domain, found) == roles_of_turns(domain, lines) == [0, 1]
    assert found.response_start == len(found)


def test_somebody_new_responds_to_a_single_speaker() -> None:
    domain = learned()
    assert roles_of_turns(domain, domain.parse('[{"speaker": "ann", "text": "hi"}]')) == [1]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ('{"turns": [{"speaker": "ann"', "not JSON"),
        ('{"talk": []}', "there is no list of turns.*such a list as 'turns'"),
        ('[{"text": "hi"}]', "turn without a speaker"),
        ('[{"speaker": "ann", "text": ""}]', "the turn '' holds no token"),
    ],
    ids=["cut", "another field", "no speaker", "no text"],
)
def test_typed_json_of_another_kind_is_refused(written: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        learned().parse(written)


def test_a_typed_text_that_begins_with_a_bracket_is_no_json() -> None:
    assert roles_of_turns(learned(), learned().parse("[MASK] i\n{hi\n")) == [0, 1]


def test_a_typed_dialogue_is_the_context_that_the_stored_one_has() -> None:
    domain = learned()
    whole = encoded(domain)
    context = domain.parse_dialogue(TALK[:-1], responder="ann")
    start = whole.response_start
    assert context.response_start == len(context) == start
    for name in ("ids", "unit_ids", "segment_ids", "role_ids"):
        assert np.array_equal(getattr(context, name), getattr(whole, name)[:start]), name


def test_a_responder_may_be_new() -> None:
    domain = learned()
    assert roles_of_turns(domain, domain.parse_dialogue(TALK, responder="dee")) == [1, 3, 2, 1]


@pytest.mark.parametrize(
    ("turns", "says"),
    [([], "there is no turn"), ([("a", "hi"), ("b", " ")], "the turn '' holds no token")],
)
def test_a_dialogue_of_nothing_cannot_be_answered(turns: list[Turn], says: str) -> None:
    with pytest.raises(DataError, match=says):
        learned().parse_dialogue(turns, responder="a")


def test_nothing_at_all_is_a_start_to_which_anyone_may_add() -> None:
    domain = learned()
    encoding = domain.assemble(np.empty(0, domain.token_dtype), max_length=2)
    assert encoding.ids.tolist() == [domain.vocabulary.special.start]
    assert encoding.response_start == 1


@pytest.mark.parametrize("name", ["clm", "mlm", "pmlm", "prefix_lm"])
def test_rows_of_every_objective_keep_the_roles(name: str) -> None:
    domain = learned()
    objective = OBJECTIVES.build({"name": name}, domain, where="objectives.0")
    encoding = encoded(domain)
    for row in objective.rows(encoding, np.random.default_rng(1)):
        assert row.role_ids is not None
        assert len(row.role_ids) == len(row.ids)
        assert encoding.role_ids is not None
        assert np.array_equal(row.role_ids, encoding.role_ids[row.position_ids])
