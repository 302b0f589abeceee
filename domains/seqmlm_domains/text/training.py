"""Learns the vocabularies: byte-level BPE, WordPiece, Unigram, characters."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal, get_args

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from seqmlm.errors import ConfigError, DataError

TokenizerKind = Literal["bpe", "wordpiece", "unigram", "character", "pretrained"]
ChineseUnits = Literal["character", "word"]

PADDING, UNKNOWN, START, END, MASK = SPECIAL_TOKENS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
)
PARAGRAPH: Final = "\n\n"

CONTINUATION: Final = "##"
"""Before a WordPiece token that does not begin a word (BERT)."""

BLANK: Final = "\N{LOWER ONE EIGHTH BLOCK}"
"""Stands for a blank in Unigram tokens (SentencePiece)."""

FREQUENT_PLACEHOLDER: Final = 0.001
"""Share of the words from which a literal <unk> is no accident."""

_PLACEHOLDER: Final = re.compile(r"(?<!\S)<unk>(?!\S)")
_logger = logging.getLogger("seqmlm")
_NUM_BYTES = 256
_LONGEST_PIECE = 16  # characters of a Unigram token, as in SentencePiece


@dataclass(frozen=True)
class TokenizerSettings:
    """What a vocabulary is learned with; equal settings and texts give equal tokenizers.

    Args:
        kind: ``bpe`` (byte-level, nothing is unknown), ``wordpiece`` (BERT; forgets white space
            but for paragraphs), ``unigram`` (SentencePiece) or ``character``; ``pretrained``
            learns nothing, for the tokenizer is that of another model.
        vocabulary_size: most tokens, special tokens included; few or uniform texts give fewer.
        lowercase: whether case is dropped; WordPiece then drops accents too, as BERT does.
        unmaskable_words: placeholders of the data, such as ``<unk>``. Each becomes one token that
            is input only: never masked, drawn or predicted.
        chinese_units: what is a word in Chinese: each ``character``, or each ``word`` that jieba
            finds. Tokens are characters in both cases.

    Raises:
        ConfigError: a setting is outside what is allowed.
    """

    kind: TokenizerKind = "bpe"
    vocabulary_size: int = 8_000
    lowercase: bool = False
    unmaskable_words: tuple[str, ...] = ()
    chinese_units: ChineseUnits = "character"

    def __post_init__(self) -> None:
        kinds = get_args(TokenizerKind)
        if self.kind not in kinds:
            raise ConfigError(f"domain.tokenizer is {self.kind!r}; allowed: {', '.join(kinds)}.")
        smallest = self.num_reserved + (_NUM_BYTES if self.kind == "bpe" else 0) + 1
        size = self.vocabulary_size
        if not isinstance(size, int) or not smallest <= size < 2**31:
            raise ConfigError(
                f"domain.vocabulary_size is {size!r}; with tokenizer {self.kind!r} it is a whole "
                f"number from {smallest} to {2**31 - 1}."
            )
        if not isinstance(self.lowercase, bool):
            raise ConfigError(f"domain.lowercase is {self.lowercase!r}; it is true or false.")
        if self.chinese_units not in get_args(ChineseUnits):
            raise ConfigError(
                f"domain.chinese_units is {self.chinese_units!r}; allowed: "
                f"{', '.join(get_args(ChineseUnits))}."
            )
        self._check_unmaskable_words()

    def _check_unmaskable_words(self) -> None:
        for word in self.unmaskable_words:
            if not isinstance(word, str) or re.search(r"\s", word) or word in SPECIAL_TOKENS:
                raise ConfigError(
                    f"domain.unmaskable_words: {word!r} is not a word without blanks, or is a "
                    f"special token ({', '.join(SPECIAL_TOKENS)})."
                )
            if len(word) < 2 or word.isalnum():
                raise ConfigError(
                    f"domain.unmaskable_words: {word!r} could be an ordinary token. Placeholders "
                    "hold a sign, such as '<unk>' or '@-@'."
                )

    @property
    def reserved(self) -> tuple[str, ...]:
        """Tokens after the learned ones that stand for themselves and are never predicted."""
        return (*([PARAGRAPH] if self.kind == "wordpiece" else []), *self.unmaskable_words)

    @property
    def num_reserved(self) -> int:
        """Special tokens and those of :attr:`reserved`."""
        return len(SPECIAL_TOKENS) + len(self.reserved)


@dataclass(frozen=True)
class _Pipeline:
    """How text is prepared and cut into words before the model of a tokenizer sees it."""

    normalizer: normalizers.Normalizer
    pre_tokenizer: pre_tokenizers.PreTokenizer
    decoder: decoders.Decoder


def _split(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


# A Chinese character is a word, so sub-words never join two. Line ends stand alone: cutting a text
# behind one changes no token.
_SEPARATE: Final = r"\p{Han}|\n"
_WORD_CHARACTERS: Final = r"\p{L}\p{M}\p{N}"


def _normalizer(first: normalizers.Normalizer, lowercase: bool) -> normalizers.Normalizer:
    return normalizers.Sequence([first, *([normalizers.Lowercase()] if lowercase else [])])


def _bpe_pipeline(lowercase: bool) -> _Pipeline:
    return _Pipeline(
        _normalizer(normalizers.NFC(), lowercase),
        pre_tokenizers.Sequence(
            [_split(_SEPARATE), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        ),
        decoders.ByteLevel(),
    )


def _wordpiece_pipeline(lowercase: bool) -> _Pipeline:
    bert = normalizers.BertNormalizer(lowercase=lowercase)  # accents go with the case
    return _Pipeline(
        normalizers.Sequence([normalizers.NFC(), bert]),
        pre_tokenizers.BertPreTokenizer(),
        decoders.WordPiece(prefix=CONTINUATION, cleanup=False),
    )


def _unigram_pipeline(lowercase: bool) -> _Pipeline:
    words = rf" ?[{_WORD_CHARACTERS}]+| ?[^\s{_WORD_CHARACTERS}]"
    blanks = normalizers.Replace(Regex(r"[^\S\n]+"), " ")
    return _Pipeline(
        _normalizer(normalizers.Sequence([normalizers.NFKC(), blanks]), lowercase),
        pre_tokenizers.Sequence(
            [
                *(_split(_SEPARATE), _split(words)),
                pre_tokenizers.Metaspace(replacement=BLANK, prepend_scheme="never", split=False),
            ]
        ),
        decoders.Metaspace(replacement=BLANK, prepend_scheme="never"),
    )


def _character_pipeline(lowercase: bool) -> _Pipeline:
    words = rf"[{_WORD_CHARACTERS}]+|[^{_WORD_CHARACTERS}]"
    return _Pipeline(
        _normalizer(normalizers.NFC(), lowercase),
        pre_tokenizers.Sequence([_split(_SEPARATE), _split(words)]),
        decoders.Fuse(),
    )


_PIPELINES: Final = {
    "bpe": _bpe_pipeline,
    "wordpiece": _wordpiece_pipeline,
    "unigram": _unigram_pipeline,
    "character": _character_pipeline,
}


def train_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """Learn a vocabulary.

    Ids: the five special tokens, the learned tokens, then :attr:`TokenizerSettings.reserved`.
    Memory grows with the number of different words, not with the texts.

    Args:
        settings: what to learn.
        texts: read a few times, so an iterable that begins anew each time.

    Returns:
        A tokenizer whose file other programs can load; on its own it takes ``[MASK]`` and its
        like in a text for special tokens.

    Raises:
        ConfigError: the tokenizer is to be a pretrained one.
        DataError: the texts hold nothing to learn from.
    """
    if settings.kind == "pretrained":
        raise ConfigError(
            "domain.tokenizer is 'pretrained', and such a one is not learned: let "
            "domain.tokenizer_folder name the folder of an imported model that exists."
        )
    pipeline = _PIPELINES[settings.kind](settings.lowercase)
    pieces = _Pieces(texts, settings.reserved)
    if not any(piece.strip() for piece in pieces):
        raise DataError(
            "No vocabulary can be learned: the data hold no text, only white space and unmaskable "
            "words. Are the files of data.sources empty?"
        )
    size = settings.vocabulary_size - len(settings.reserved)
    _remark_on_placeholders(pieces)
    model = _MODELS[settings.kind](pieces, pipeline, size)
    return _complete(pipeline, model, settings.reserved)


def _remark_on_placeholders(pieces: Iterable[str]) -> None:
    """Say once that the data hold a literal <unk> that the model would learn to predict."""
    words = placeholders = 0
    for piece in islice(pieces, 10_000):  # enough to see it
        words += len(piece.split())
        placeholders += len(_PLACEHOLDER.findall(piece))
    if placeholders > FREQUENT_PLACEHOLDER * words:
        _logger.info(
            "<unk> is %.1f %% of the words and will be masked and predicted like any other; "
            "domain.unmaskable_words = ['<unk>'] makes it input only",
            100 * placeholders / words,
        )


@dataclass(frozen=True)
class _Pieces:
    """What lies between the reserved tokens of some texts; iterates anew each time."""

    texts: Iterable[str]
    reserved: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        longest_first = sorted(self.reserved, key=len, reverse=True)
        pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        for text in self.texts:
            yield from pattern.split(text)


_Model = dict[str, Any]


def _model_of(tokenizer: Tokenizer) -> _Model:
    model: _Model = json.loads(tokenizer.to_str())["model"]
    return model


def _tokenizer(model: models.Model, pipeline: _Pipeline) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = pipeline.normalizer
    tokenizer.pre_tokenizer = pipeline.pre_tokenizer
    tokenizer.decoder = pipeline.decoder
    return tokenizer


def _train_bpe(pieces: Iterable[str], pipeline: _Pipeline, size: int) -> _Model:
    tokenizer = _tokenizer(models.BPE(), pipeline)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    return _model_of(tokenizer)


def _train_wordpiece(pieces: Iterable[str], pipeline: _Pipeline, size: int) -> _Model:
    """Train twice: the library numbers ``##x`` in hash order, and merges hang on the numbers.

    The first training only finds which characters continue words; the second gets them as tokens
    with numbers of their own.
    """
    counts: Counter[str] = Counter()

    def counted() -> Iterator[str]:
        for piece in pieces:
            counts.update(pipeline.normalizer.normalize_str(piece))
            yield piece

    probe = _tokenizer(models.WordPiece(unk_token=UNKNOWN), pipeline)
    probe.train_from_iterator(
        counted(),
        trainers.WordPieceTrainer(vocab_size=0, limit_alphabet=2**31, show_progress=False),
    )
    continuing = {token[len(CONTINUATION) :] for token in probe.get_vocab() if len(token) > 2}
    alphabet, room = [], size - len(SPECIAL_TOKENS)
    for character in _by_frequency(counts):
        if character.isspace():
            continue
        room -= 1 + (character in continuing)
        if room >= 0:
            alphabet.append(character)
    tokenizer = _tokenizer(models.WordPiece(unk_token=UNKNOWN), pipeline)
    numbered = [CONTINUATION + character for character in alphabet if character in continuing]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=[*SPECIAL_TOKENS, *numbered],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    return _model_of(tokenizer)


def _train_unigram(pieces: Iterable[str], pipeline: _Pipeline, size: int) -> _Model:
    """Train and iron out what the library's hash order leaves in the result.

    That is the order of equal scores, their last digits, and, among characters that are in the
    vocabulary only because every character must be, which of them scores 0.0001 more.
    """
    tokenizer = _tokenizer(models.Unigram(), pipeline)
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        unk_token=UNKNOWN,
        max_piece_length=_LONGEST_PIECE,
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    model = _model_of(tokenizer)
    learned = model["vocab"][len(SPECIAL_TOKENS) :]
    lowest = min((score for _, score in learned), default=0.0)
    tied_below = lowest + 1e-4 * sum(len(piece) == 1 for piece, _ in learned)
    scores = {
        piece: round(lowest if len(piece) == 1 and score <= tied_below else score, 6)
        for piece, score in learned
    }
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    specials = [[token, 0.0] for token in SPECIAL_TOKENS]
    model["vocab"] = [*specials, *map(list, ordered[: size - len(SPECIAL_TOKENS)])]
    return model


def _train_characters(pieces: Iterable[str], pipeline: _Pipeline, size: int) -> _Model:
    """Count: BPE without merges takes a word apart into its characters."""
    counts: Counter[str] = Counter()
    for piece in pieces:
        counts.update(pipeline.normalizer.normalize_str(piece))
    most_frequent = list(_by_frequency(counts))[: size - len(SPECIAL_TOKENS)]
    vocabulary = {
        token: number for number, token in enumerate([*SPECIAL_TOKENS, *sorted(most_frequent)])
    }
    return _model_of(
        _tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN), pipeline)
    )


_MODELS: Final = {
    "bpe": _train_bpe,
    "wordpiece": _train_wordpiece,
    "unigram": _train_unigram,
    "character": _train_characters,
}


def _by_frequency(counts: Counter[str]) -> Iterator[str]:
    for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        yield character


def _complete(pipeline: _Pipeline, model: _Model, reserved: tuple[str, ...]) -> Tokenizer:
    """Put a trained model, the reserved tokens and the frame of a sequence together."""
    content = json.loads(_tokenizer(models.BPE(), pipeline).to_str())
    tokenizer = Tokenizer.from_str(json.dumps(content | {"model": model}))
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    for token in reserved:
        if tokenizer.token_to_id(token) is not None:
            raise ConfigError(
                f"domain.unmaskable_words: {token!r} is also a word of the data after "
                "normalisation; it cannot be both."
            )
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in reserved])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (START, END)],
    )
    return tokenizer
