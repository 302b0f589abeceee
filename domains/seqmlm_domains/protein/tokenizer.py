"""The token set of ESM-2 and the rules for letters that are no standard amino acid.

Ids equal those of ESM-2 (Lin et al. 2023, https://doi.org/10.1126/science.ade2574), so its weights
load without a permutation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, get_args

import numpy as np
import numpy.typing as npt

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record, TokenBlock
from seqmlm.encoding import NOT_MASKABLE, Encoding
from seqmlm.errors import ConfigError, DataError
from seqmlm.vocabulary import SpecialTokens, Vocabulary

STANDARD_RESIDUES: Final = "LAGVSERTIDPKQNFYMHWC"
AMBIGUOUS_RESIDUES: Final = "XBUZO"

TOKENS: Final = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *STANDARD_RESIDUES,
    *AMBIGUOUS_RESIDUES,
    *(".", "-", "<null_1>", "<mask>"),
)
RESIDUE_RANGE: Final = (4, 24)
"""Ids of the 20 standard residues, half-open: all that is ever masked, drawn or predicted."""

VOCABULARY: Final = Vocabulary(
    tokens=TOKENS,
    special=SpecialTokens(padding=1, unknown=3, start=0, end=2, mask=32),
    ranges={"protein": RESIDUE_RANGE},
)

GapPolicy = Literal["refuse", "strip", "keep"]

_LAST_RESIDUE = TOKENS.index("O")
_GAPS = (TOKENS.index("."), TOKENS.index("-"))
_MASK = VOCABULARY.special.mask
# What a character becomes when it is not simply a token; above every id on purpose, so that one
# comparison with the largest id of a batch tells whether any record needs a second look.
_STOP = len(TOKENS)
_LEUCINE_OR_ISOLEUCINE = _STOP + 1
_WHITESPACE = _STOP + 2
_INVALID = 255

_NOT_IN_TEXT = {*VOCABULARY.tokens[:4], "<null_1>", "<mask>"}
_TAG = re.compile(r"<[^<>]*>")


def _byte_table() -> bytes:
    table = bytearray([_INVALID] * 256)
    for letter in (*STANDARD_RESIDUES, *AMBIGUOUS_RESIDUES, ".", "-"):
        for form in (letter, letter.lower()):
            table[ord(form)] = TOKENS.index(letter)
    table[ord("*")] = _STOP
    table[ord("J")] = table[ord("j")] = _LEUCINE_OR_ISOLEUCINE
    for blank in " \t\r\n":
        table[ord(blank)] = _WHITESPACE
    return bytes(table)


_BYTE_TABLE = _byte_table()


@dataclass(frozen=True)
class ResidueTokenizer:
    """Turns one-letter amino-acid codes into ESM-2 ids; case does not matter.

    ========================  =================================================================
    20 standard residues      tokens; the only ones that are masked, drawn or predicted
    ``X B Z U O``             tokens, never masked, drawn or predicted
    ``J`` (L or I)            read as ``X``; counted
    one ``*`` at the end      removed (translation stop); counted
    ``*`` elsewhere           refused
    ``-`` and ``.``           as ``gaps`` says
    anything else             refused, with record and position
    ========================  =================================================================

    Args:
        gaps: ``refuse``: an error. ``strip``: removed before any other rule applies and counted,
            so that rows of an alignment become plain sequences (``MK*--`` ends in a stop).
            ``keep``: tokens, never masked, drawn or predicted.

    Raises:
        ConfigError: ``gaps`` is something else.
    """

    gaps: GapPolicy = "refuse"

    def __post_init__(self) -> None:
        if self.gaps not in get_args(GapPolicy):
            raise ConfigError(
                f"domain.gaps is {self.gaps!r}; allowed: {', '.join(get_args(GapPolicy))}."
            )

    def tokenize(self, records: Sequence[Record], report: ReadReport) -> TokenBlock:
        """Return the uint8 ids of all records, translated in one pass over their joined text.

        Records without a residue get length 0 and are counted as dropped ("no sequence").

        Raises:
            DataError: a character is refused; names the first such record and position.
        """
        contents = [record.content for record in records]
        lengths = np.fromiter(map(len, contents), dtype=np.int64, count=len(contents))
        codes = _translate("".join(contents))
        if codes.max(initial=0) > _LAST_RESIDUE:
            codes, lengths = self._apply_rules(records, codes, lengths, report)
        for empty in np.flatnonzero(lengths == 0).tolist():
            report.drop("no sequence", records[empty].place)
        return TokenBlock(codes, lengths)

    def parse(self, text: str) -> Encoding:
        """Return ``<cls>``, the residues and ``<mask>`` tokens of typed text, and ``<eos>``.

        White space is skipped. ``offsets`` count characters of ``text`` as given. Mask tokens
        carry no unit: only residues that are there can be masked or scored.

        Raises:
            DataError: a character or tag is refused (position counted from 1), or nothing is left.
        """
        codes = _translate(text).copy()
        kept = codes != _WHITESPACE
        ends = np.arange(1, len(text) + 1)
        for tag in _TAG.finditer(text):
            _check_tag(tag)
            codes[tag.start()] = _MASK
            ends[tag.start()] = tag.end()
            kept[tag.start() + 1 : tag.end()] = False
        if self.gaps == "strip":
            kept &= ~np.isin(codes, _GAPS)
        filled = np.flatnonzero(kept)
        if filled.size and codes[filled[-1]] == _STOP:
            filled = filled[:-1]
        codes[codes == _LEUCINE_OR_ISOLEUCINE] = TOKENS.index("X")
        refused = filled[self._is_refused(codes[filled])]
        if refused.size:
            _refuse("input", text, int(refused[0]))
        if not filled.size:
            raise DataError(f"The input {text!r} holds no residue and no <mask>.")
        offsets = np.zeros((len(filled) + 2, 2), dtype=np.int32)
        offsets[1:-1, 0], offsets[1:-1, 1] = filled, ends[filled]
        return encode(codes[filled], offsets=offsets)

    def _apply_rules(
        self,
        records: Sequence[Record],
        codes: npt.NDArray[np.uint8],
        lengths: npt.NDArray[np.int64],
        report: ReadReport,
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Apply the rules of the class to a batch that holds more than plain residues."""

        def note(change: str, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            counts = _count_by_record(positions, lengths)
            for changed in np.flatnonzero(counts).tolist():
                report.note(change, records[changed].place, int(counts[changed]))
            return counts

        if self.gaps == "strip":
            gaps = np.flatnonzero(np.isin(codes, _GAPS))
            lengths = lengths - note("gap removed", gaps)
            codes = np.delete(codes, gaps)
        last = np.cumsum(lengths)[lengths > 0] - 1
        stops = last[codes[last] == _STOP]
        lengths = lengths - note("stop (*) at the end removed", stops)
        codes = np.delete(codes, stops)
        ambiguous = np.flatnonzero(codes == _LEUCINE_OR_ISOLEUCINE)
        note("J (leucine or isoleucine) read as X", ambiguous)
        codes[ambiguous] = TOKENS.index("X")
        refused = np.flatnonzero(self._is_refused(codes))
        if refused.size:
            first = int(np.searchsorted(np.cumsum(lengths), refused[0], side="right"))
            self._refuse_record(records[first])
        return codes, lengths

    def _is_refused(self, codes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        refused: npt.NDArray[np.bool_] = (codes > _LAST_RESIDUE) & (codes != _MASK)
        if self.gaps == "keep":
            refused &= ~np.isin(codes, _GAPS)
        return refused

    def _refuse_record(self, record: Record) -> NoReturn:
        """Find the first refused character of a record that is known to hold one."""
        codes = _translate(record.content)
        body = np.arange(len(codes))
        if self.gaps == "strip":
            body = body[~np.isin(codes, _GAPS)]
        if codes[body[-1]] == _STOP:
            body = body[:-1]
        refused = self._is_refused(codes[body]) & (codes[body] != _LEUCINE_OR_ISOLEUCINE)
        _refuse(record.place, record.content, int(body[refused][0]))


def encode(
    tokens: npt.NDArray[np.uint8], *, offsets: npt.NDArray[np.int32] | None = None
) -> Encoding:
    """Return the tokens of one sequence between ``<cls>`` and ``<eos>``, each residue a unit.

    Args:
        tokens: uint8 ``[n]``, at least one.
        offsets: int32 ``[n + 2, 2]``, passed on.
    """
    ids = np.empty(len(tokens) + 2, dtype=np.int32)
    ids[0], ids[-1] = VOCABULARY.special.start, VOCABULARY.special.end
    ids[1:-1] = tokens
    is_standard = (ids >= RESIDUE_RANGE[0]) & (ids < RESIDUE_RANGE[1])
    numbers = np.cumsum(is_standard, dtype=np.int32) - 1
    return Encoding(
        ids=ids,
        unit_ids=np.where(is_standard, numbers, np.int32(NOT_MASKABLE)),
        segment_ids=np.zeros(len(ids), dtype=np.int32),
        offsets=offsets,
    )


def decode(ids: Sequence[int]) -> str:
    """Return the one-letter codes of ``ids``; ``<cls>``, ``<mask>`` and their like left out."""
    return "".join(token for token in map(TOKENS.__getitem__, ids) if token not in _NOT_IN_TEXT)


def _translate(text: str) -> npt.NDArray[np.uint8]:
    # "replace" makes one '?' of every character outside ASCII, so positions stay those of the
    # text, and '?' is refused like the character itself.
    return np.frombuffer(text.encode("ascii", "replace").translate(_BYTE_TABLE), dtype=np.uint8)


def _count_by_record(
    positions: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return how many of the sorted ``positions`` in the joined text fall into each record."""
    owners = np.searchsorted(np.cumsum(lengths), positions, side="right")
    return np.bincount(owners, minlength=len(lengths))


def _check_tag(tag: re.Match[str]) -> None:
    name = tag.group()
    if name == "<mask>":
        return
    remedy = (
        "special tokens are added automatically: remove it"
        if name in TOKENS
        else "only <mask> may be written in angle brackets"
    )
    raise DataError(f"input: position {tag.start() + 1} is {name!r}; {remedy}.")


def _refuse(place: str, text: str, position: int) -> NoReturn:
    character = text[position]
    if character == "*":
        reason = "a stop inside the sequence; correct or remove it, only one at the end is accepted"
    elif character in ".-":
        reason = "a gap; remove the gaps, or set domain.gaps to 'strip' or 'keep'"
    else:
        reason = (
            f"no amino acid; allowed: {''.join(sorted(STANDARD_RESIDUES))}, "
            f"the ambiguity codes {AMBIGUOUS_RESIDUES}J and one * at the end"
        )
    raise DataError(f"{place}: position {position + 1} is {character!r}, {reason}.")
