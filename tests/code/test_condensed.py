from __future__ import annotations

import pytest

from seqmlm_domains.code.condensed import condensed
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.source_tokens import SourceTokens

LONG = "a" * 41


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", "x = 1  # one\n\n\ny = 2\n", "x = 1\ny = 2\n"),
        ("python", "if x:  # why\n    # because\n    y()\n", "if x:\n    y()\n"),
        ("python", f"x = '{'a' * 40}'", f"x = '{'a' * 40}'"),
        ("python", f"x = '{LONG}'", "x = ''"),
        ("python", f'x = rb"{LONG}"', 'x = rb""'),
        ("python", f'x = """{LONG}"""', 'x = """"""'),
        ("python", f'f"{LONG}{{name}}{LONG}"', 'f"{name}"'),
        ("python", f'f"""{LONG}{{name!r:>9}}{LONG}{{x}}"""', 'f"""{name!r:>9}{x}"""'),
        ("python", f'f"""{{name}}{LONG}"""', 'f"""{name}"""'),
        ("java", "int/* of what */x;", "int x;"),
        ("java", "f(/* first */ a, /* second */b);", "f( a, b);"),
        ("typescript", "let a = 1; // one\n/* two\nlines */\nlet b;", "let a = 1;\nlet b;"),
        ("typescript", f"`{LONG}${{name}}{LONG}${{x}}{LONG}`", "`${name}${x}`"),
        ("javascript", f"x = /{LONG}/g;", f"x = /{LONG}/g;"),
        ("python", f'x = "{LONG}\ny = 1', 'x = "\ny = 1'),
    ],
)
def test_comments_blank_lines_and_long_literals_go(language: str, text: str, expected: str) -> None:
    tokens = SourceTokens.of(text, language)
    assert condensed(tokens, 0, len(tokens.numbers)) == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_and_signs_stay_as_they_are(language: str) -> None:
    comment = "# of a" if language == "python" else "/* of\na */"
    text = f"a.b(c){comment}\n  d[e]={comment}f\n" + "'" + "x" * 50 + "'" + comment
    if language == "python":
        text = text.replace(f"{comment}f", "f")
    whole = SourceTokens.of(text, language)
    short = SourceTokens.of(condensed(whole, 0, len(whole.numbers)), language)
    code = [
        [tokens.words[number] for number in tokens.code(0, len(tokens.numbers))]
        for tokens in (whole, short)
    ]
    assert code[0] == code[1]
    assert len(short.text) < len(text)
