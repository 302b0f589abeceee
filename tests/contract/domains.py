"""Domains with a vocabulary, and texts that each of them reads."""

from __future__ import annotations

from seqmlm.domain import Domain, Record, build_domain

TEXTS = {
    "code": [
        'def area(width, height=1):\n    return width * height\n\n\nprint(area(2), "[MASK]")\n',
        "class Pair<K> {\n\tfinal K \u952e; // \U0001f600 <|mask\n}\n",
        "x",
    ],
    "protein": ["MKTAYIAKQRQISFVKSHFSRQ", "MSXBZUOACDEFGHIKLMNPQRSTVWY", "M"],
    "text": [
        "The quick brown fox\n\njumps over 13 lazy dogs.",
        "\u4f60\u597d\uff0c\u4e16\u754c! It's na\u00efve \u2014 [SEP] \U0001f600",
        "x",
    ],
    "dialogue": [
        '[["ann", "It\'s 3 o\'clock."], ["bob", "\u4f60\u597d"], ["ann", "So late?"]]',
        '[["cy", "x"], ["dee", "y"]]',
    ],
    "kg": ["ann\tparent_of\tbob", "new york\tpart_of\tnew york city", "x\tr\tx"],
    "music": ["CDEFGAB-CCGGAAG-FFEEDDC-", "CEG-CEG", "C"],
}


def built(name: str) -> Domain:
    """The domain with a vocabulary, learned from its texts if it has none of its own."""
    domain = build_domain({"name": name})
    if not domain.has_vocabulary:
        texts = enumerate(TEXTS[name], start=1)
        domain.fit_tokenizer([Record(f"r{i}", text, "test", i) for i, text in texts])
    return domain
