"""Dialogues as a domain: a context of turns, the response to it, and who speaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.domain import Domain, Record, TokenBlock
from seqmlm.encoding import NOT_MASKABLE, Encoding, IntArray
from seqmlm.errors import ConfigError, DataError
from seqmlm_domains.text.dialogue_reader import (
    MOST_SPEAKERS,
    PLAY_SPEAKER,
    DialogueFormat,
    DialogueReader,
    Turn,
    json_turns,
    turns_of,
)
from seqmlm_domains.text.domain import SAMPLES, TextDomain
from seqmlm_domains.text.tokenizer import TextTokenizer
from seqmlm_domains.text.training import ChineseUnits, TokenizerKind, train_tokenizer

RESPONDER = 0
"""Role of whoever speaks the response."""

UNKNOWN_SPEAKER = -1
"""Stands for the number of a speaker."""


class DialogueDomain(TextDomain):
    """Turns of several speakers, of which one is the response to those before it.

    An encoding is ``[CLS]``, then each turn and ``[SEP]``. Segment ids are 0 in the context and
    1 in the response. Role ids say who speaks, as the responder sees it (PLATO-XL, arXiv
    2109.09519): the responder is 0, the others count from 1, whoever spoke last first. ``[SEP]``
    has the role of its turn, ``[CLS]`` that of the first turn. The names of the speakers are not
    seen.

    Args:
        tokenizer: see :class:`~seqmlm_domains.text.training.TokenizerSettings`, as for the next
            four.
        vocabulary_size: most tokens, special tokens included.
        lowercase: whether case is dropped.
        unmaskable_words: placeholders in the data that are never masked or predicted.
        chinese_units: ``character``, or ``word`` as found by jieba (extra ``chinese``).
        file_format: see :class:`~seqmlm_domains.text.dialogue_reader.DialogueReader`, as for the
            next three.
        turns_field: field of JSON Lines with the turns.
        speaker_line: regular expression of a line that begins a turn of a script.
        turns_per_record: a longer dialogue becomes several records.
        roles: how many roles are told apart; speakers beyond share the last one. Equal to
            ``model.roles``, unless that is 0.

    Raises:
        ConfigError: an option is outside what is allowed.
    """

    num_segments: ClassVar[int] = 2
    summary: ClassVar[str] = "Dialogues in JSON Lines or scripts of plays: who says what to whom"
    settings_for_documents: ClassVar[str] = ""
    what_is_cut: ClassVar[str] = "the oldest turns before a response are left out"
    special_tokens_per_sequence = 1  # [CLS]: the ends of turns are stored

    def __init__(
        self,
        *,
        tokenizer: TokenizerKind = "bpe",
        vocabulary_size: int = 8_000,
        lowercase: bool = False,
        unmaskable_words: Sequence[str] = (),
        chinese_units: ChineseUnits = "character",
        file_format: DialogueFormat = "auto",
        turns_field: str = "turns",
        speaker_line: str = PLAY_SPEAKER,
        turns_per_record: int = 32,
        roles: int = 4,
    ) -> None:
        super().__init__(
            tokenizer=tokenizer,
            vocabulary_size=vocabulary_size,
            lowercase=lowercase,
            unmaskable_words=unmaskable_words,
            chinese_units=chinese_units,
        )
        self._dialogue_reader = DialogueReader(
            file_format=file_format,
            turns_field=turns_field,
            speaker_line=speaker_line,
            turns_per_record=turns_per_record,
        )
        if not isinstance(roles, int) or not 2 <= roles <= MOST_SPEAKERS:
            raise ConfigError(
                f"domain.roles is {roles!r}; it is a whole number from 2, the responder and the "
                f"others, to {MOST_SPEAKERS}."
            )
        self.num_roles = roles
        # A turn ends with a stored token beyond the vocabulary, which also says who spoke it.
        self._first_turn_end = vocabulary_size
        self._choose_token_dtype(vocabulary_size + MOST_SPEAKERS)

    @property
    def options(self) -> Mapping[str, Any]:
        """Keyword arguments that rebuild this domain, but for its vocabulary."""
        settings, reader = self._settings, self._dialogue_reader
        return {
            "tokenizer": settings.kind,
            "vocabulary_size": settings.vocabulary_size,
            "lowercase": settings.lowercase,
            "unmaskable_words": list(settings.unmaskable_words),
            "chinese_units": settings.chinese_units,
            "file_format": reader.file_format,
            "turns_field": reader.turns_field,
            "speaker_line": reader.speaker_line,
            "turns_per_record": reader.turns_per_record,
            "roles": self.num_roles,
        }

    @classmethod
    def default_config(cls) -> dict[str, Any]:
        """Return settings for a model of 1.8 M parameters that learns to respond."""
        return {
            "model": {"layers": 4, "hidden_size": 128, "heads": 4, "segments": 2, "roles": 4},
            "data": {"max_length": 256},
            "objectives": [{"name": "prefix_lm"}],
        }

    @classmethod
    def bundled_run(cls) -> dict[str, Any]:
        """Return a run on the speeches of 100,000 characters of Shakespeare, a character a token.

        Half a minute on one core: 2.05 nats on held-out answers, where counting reaches 2.35.
        """
        return {
            "domain": {"tokenizer": "character", "turns_per_record": 6},
            "model": {"layers": 2, "hidden_size": 96},
            "data": {
                "sources": [str(SAMPLES / "shakespeare_100k.txt.gz")],
                "max_length": 192,
                "validation_fraction": 0.1,
            },
            "optimizer": {"learning_rate": 5e-3, "weight_decay": 0.1},
            "training": {
                "steps": 300,
                "tokens_per_batch": 2048,
                "evaluate_every": 100,
                "checkpoint_every": 150,
            },
        }

    def read(self, sources: Sequence[str | Path], report: ReadReport) -> Iterator[Record]:
        """Yield dialogues of JSON Lines and scripts; long ones as several records."""
        return self._dialogue_reader.read(sources, report)

    def fit_tokenizer(self, records: Iterable[Record]) -> None:
        """Learn the vocabulary from what is said; about 1 to 3 MB of text a second."""
        tokenizer = train_tokenizer(self._settings, _Utterances(records))
        self._use(TextTokenizer(tokenizer.to_str(), self._settings))

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return ids with word marks, and behind each turn its end with the number of the speaker.

        Dialogues without a response that holds a token to predict are dropped; unknown tokens and
        speakers that share a role are counted.
        """
        special = self.vocabulary.special
        dialogues = [turns_of(record.content) for record in records]
        tokens = self._tokenizer.encode([text for turns in dialogues for _, text in turns])
        marked = tokens.ids | np.where(tokens.starts_word, np.uint32(self._word_mark), np.uint32(0))
        ends = np.cumsum(tokens.lengths)
        parts: list[npt.NDArray[np.uint32]] = []
        turn = 0
        for record, turns in zip(records, dialogues, strict=True):
            first, turn = turn, turn + len(turns)
            start = ends[first] - tokens.lengths[first]
            content = marked[start : ends[turn - 1]]
            numbers: dict[str, int] = {}
            speakers = [numbers.setdefault(speaker, len(numbers)) for speaker, _ in turns]
            if not self._is_maskable(tokens.ids[ends[first] : ends[turn - 1]]).any():
                report.drop("responses of nothing but unknown or unmaskable words", record.place)
                parts.append(content[:0])
                continue
            if unknown := int((tokens.ids[start : ends[turn - 1]] == special.unknown).sum()):
                report.note("unknown token", record.place, unknown)
            if (sharing := len(numbers) - self.num_roles) > 0:
                report.note(
                    "speaker beyond domain.roles, with a shared role", record.place, sharing
                )
            turn_ends = np.array(speakers, np.uint32) + np.uint32(self._first_turn_end)
            turn_ends |= np.uint32(self._word_mark)
            parts.append(np.insert(content, ends[first:turn] - start, turn_ends))
        lengths = np.array([len(part) for part in parts], np.int64)
        return TokenBlock(np.concatenate(parts).astype(self.token_dtype), lengths)

    def token_ids(
        self, tokens: npt.NDArray[np.unsignedinteger[Any]]
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the ids of stored tokens, ``[SEP]`` for the end of a turn."""
        ids = super().token_ids(tokens)
        return np.where(
            ids < self._first_turn_end, ids, self.token_dtype(self.vocabulary.special.end)
        )

    def assemble(
        self,
        tokens: npt.NDArray[np.unsignedinteger[Any]],
        *,
        max_length: int,
        generator: np.random.Generator | None = None,
    ) -> Encoding:
        """Return a turn as response, with as many of the turns before it as fit.

        The response is drawn from ``generator`` among all turns but the first; without it, it is
        the last one. If it and the turn before it do not fit, the response keeps its first half of
        the room at least, and the other gives up its beginning.

        Raises:
            ConfigError: ``max_length`` leaves no room for a context and a response.
        """
        room = max_length - self.special_tokens_per_sequence
        if len(tokens) and room < 2:
            raise ConfigError(
                f"data.max_length is {max_length}; [CLS], a token of the context and one of the "
                "response need at least 3."
            )
        ends, speakers = self._turns(tokens)
        starts = np.concatenate([[0], ends[:-1]])
        response = len(ends) - 1
        if generator is not None and response > 0:
            response = int(generator.integers(1, len(ends)))
        begin, end = (int(starts[response]), int(ends[response])) if len(ends) else (0, 0)
        previous = begin - int(starts[response - 1]) if response > 0 else 0
        stop = min(end, begin + max(room - previous, (room + 1) // 2))
        earliest = max(stop - room, 0)
        whole = starts[(starts >= earliest) & (starts < begin)]
        first = int(whole[0]) if len(whole) else earliest
        turn = np.searchsorted(ends, np.arange(first, stop), side="right")
        spoken = speakers[: response + 1].tolist()
        return self._dialogue_encoding(
            self.token_ids(tokens[first:stop]).astype(np.int32),
            (tokens[first:stop] & self._word_mark) != 0,
            roles=self._roles(spoken, spoken[-1] if spoken else None)[turn],
            context_tokens=begin - first,
        )

    def segment_starts(self, tokens: npt.NDArray[np.unsignedinteger[Any]]) -> npt.NDArray[np.bool_]:
        """Say where turns begin; bool ``[n]``."""
        begins = np.zeros(len(tokens), np.bool_)
        ends, _ = self._turns(tokens)
        begins[np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)]] = True
        return begins

    def parse(self, text: str) -> Encoding:
        """Encode a typed dialogue: each line is a turn, two speakers take turns.

        The last line is the response, or its beginning. A line break at the end says that the
        response is still to be made, as it is to a line that stands alone.

        A dialogue of JSON Lines, or its list of turns alone, is a context too: whoever spoke last
        before the last speaker responds, or somebody new.

        Raises:
            DataError: nothing is left to encode, the text is not valid Unicode, or is JSON of
                another kind.
        """
        spoken = json_turns(text, turns_field=self._dialogue_reader.turns_field)
        if spoken is not None:
            last = spoken[-1][0]
            others = (speaker for speaker, _ in reversed(spoken) if speaker != last)
            return self.parse_dialogue(spoken, responder=next(others, ""))
        lines, starts, position = list[str](), list[int](), 0
        for line in text.split("\n"):
            if line.strip():
                lines.append(line)
                starts.append(position)
            position += len(line) + 1
        context_turns = len(lines) - (len(lines) > 1 and not text.endswith("\n"))
        speakers = [str((context_turns - number) % 2) for number in range(len(lines))]
        turns = list(zip(speakers, lines, strict=True))
        return self._typed(turns, responder="0", context_turns=context_turns, starts=starts)

    def parse_dialogue(self, turns: Sequence[Turn], *, responder: str) -> Encoding:
        """Encode the context of a response that is still to be made.

        Args:
            turns: speaker and text of each, from the oldest on.
            responder: who is to speak next; may have spoken before.

        Returns:
            ``[CLS]`` and the turns, each with its ``[SEP]``; ``response_start`` is its length.
            What is generated behind it has role 0 and segment 1 and ends with ``[SEP]``.

        Raises:
            DataError: there is no turn, one holds no token or is not valid Unicode.
        """
        spoken = [(speaker, " ".join(text.split())) for speaker, text in turns]
        return self._typed(spoken, responder=responder, context_turns=len(turns))

    def decode(self, ids: Sequence[int]) -> str:
        """Return normalised text, each turn on a line of its own, unknown tokens as U+FFFD."""
        end = self.vocabulary.special.end
        turns = (list(turn) for is_end, turn in groupby(ids, lambda id: id == end) if not is_end)
        return "\n".join(super(DialogueDomain, self).decode(turn) for turn in turns)

    def _turns(
        self, tokens: npt.NDArray[np.unsignedinteger[Any]]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """One past the end of every stored turn, and the number of its speaker.

        Of a turn that a side of a pair cuts, the speaker is unknown.
        """
        speakers = super().token_ids(tokens).astype(np.int64) - self._first_turn_end
        is_end = speakers >= 0
        is_end[-1:] = True
        at = np.flatnonzero(is_end)
        return at + 1, np.maximum(speakers[at], UNKNOWN_SPEAKER)

    def _typed(
        self,
        turns: Sequence[Turn],
        *,
        responder: str,
        context_turns: int,
        starts: Sequence[int] | None = None,
    ) -> Encoding:
        """Encode turns; ``starts`` are their places in a typed text, for the offsets."""
        if not turns:
            raise DataError("input: there is no turn.")
        encoded = [self._tokenizer.encode_typed(text) for _, text in turns]
        for (_, text), (ids, _, _) in zip(turns, encoded, strict=True):
            if not len(ids):
                raise DataError(f"input: the turn {text!r} holds no token.")
        end = self.vocabulary.special.end
        lengths = np.array([len(ids) + 1 for ids, _, _ in encoded])
        offsets = None
        if starts is not None:
            frame = np.zeros((1, 2), np.int32)
            moved = (part + start for (_, _, part), start in zip(encoded, starts, strict=True))
            offsets = np.concatenate([frame, *chain.from_iterable((part, frame) for part in moved)])
        return self._dialogue_encoding(
            np.concatenate([np.append(ids, end) for ids, _, _ in encoded]).astype(np.int32),
            np.concatenate([np.append(begins, True) for _, begins, _ in encoded]),
            roles=np.repeat(self._roles([speaker for speaker, _ in turns], responder), lengths),
            context_tokens=int(lengths[:context_turns].sum()),
            offsets=offsets,
        )

    def _roles(self, speakers: Sequence[Any], responder: Any) -> IntArray:
        """Number the speakers of turns as the responder sees them, the last one to speak first."""
        numbers = {responder: RESPONDER}
        for speaker in reversed(speakers):
            numbers.setdefault(speaker, len(numbers))
        last = self.num_roles - 1
        return np.array([min(numbers[speaker], last) for speaker in speakers], np.int32)

    assemble_all = Domain.assemble_all  # one after the other, unlike texts

    def _dialogue_encoding(
        self,
        content: IntArray,
        starts_word: npt.NDArray[np.bool_],
        *,
        roles: IntArray,
        context_tokens: int,
        offsets: IntArray | None = None,
    ) -> Encoding:
        """Put ``[CLS]`` before stored or typed turns."""
        start = np.array([self.vocabulary.special.start], np.int32)
        unit_ids = self._unit_ids(content, starts_word)
        response_start = context_tokens + 1
        return Encoding(
            ids=np.concatenate([start, content]),
            unit_ids=np.concatenate([np.array([NOT_MASKABLE], np.int32), unit_ids]),
            segment_ids=(np.arange(len(content) + 1) >= response_start).astype(np.int32),
            offsets=offsets,
            role_ids=np.insert(roles, 0, roles[0] if len(roles) else RESPONDER),
            response_start=response_start,
        )


class _Utterances:
    """What is said in dialogues, turn by turn; can be iterated anew."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records

    def __iter__(self) -> Iterator[str]:
        return (text for record in self._records for _, text in turns_of(record.content))
