"""What files hold, kept from the pass that learns the vocabulary for the one that tokenises."""

from __future__ import annotations

import hashlib
from typing import Final

from seqmlm_domains.code.parser_process import ParserProcess, ParsingFailed
from seqmlm_domains.code.syntax import ParsedText

MOST_BYTES: Final = 256 * 2**20
"""Of identifiers that are kept, some 500 MB of source; what is beyond is parsed twice."""

_BYTES_PER_FILE: Final = 500


class ParsedFiles:
    """Parses each text once for two passes over the same files.

    Results of the first pass are kept in memory by what was parsed, not by the name of a file,
    which may have changed in between. A text that cannot be parsed is remembered too.

    Args:
        most_bytes: that are kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self.forget()

    def forget(self) -> None:
        """Drop everything, after the last pass."""
        self._left_bytes = self._most_bytes
        self._kept: dict[bytes, ParsedText | str] = {}

    def parse(
        self, parser: ParserProcess, text: str, language: str, *, is_first_pass: bool
    ) -> ParsedText:
        """Return what the parser finds in a text, or what it found there in the first pass.

        Args:
            parser: for what is not known.
            text: source code.
            language: of the text.
            is_first_pass: whether another pass will ask for it again.

        Raises:
            ParsingFailed: the text could not be parsed, now or in the first pass.
        """
        key = hashlib.blake2b(f"{language}\n{text}".encode(), digest_size=16).digest()
        known = self._kept.get(key)
        if known is None:
            try:
                known = parser.parse(text, language)
            except ParsingFailed as error:
                known = str(error)
            if is_first_pass:
                self._keep(key, known)
        if isinstance(known, str):
            raise ParsingFailed(known)
        return known

    def _keep(self, key: bytes, parsed: ParsedText | str) -> None:
        size = _BYTES_PER_FILE
        if not isinstance(parsed, str):
            size += parsed.identifiers.nbytes + parsed.declared_types.numbers.nbytes
            size += sum(map(len, parsed.declared_types.names))
        if size <= self._left_bytes:
            self._left_bytes -= size
            self._kept[key] = parsed
