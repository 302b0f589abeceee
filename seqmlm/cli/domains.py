"""seqmlm domains"""

from __future__ import annotations

from seqmlm.cli.options import AsJson

NAME = "domains"
SUMMARY = "List the domains that are installed."
EXAMPLES = """Examples:

seqmlm domains

seqmlm domains --json"""


def run(as_json: AsJson = False) -> None:
    """List the domains that are installed, built-in and third-party."""
    import json

    from seqmlm.registry import DOMAINS

    found = {name: DOMAINS.load(name) for name in DOMAINS.names()}
    if as_json:
        rows = [
            {
                "name": name,
                "summary": domain.summary,
                "class": f"{domain.__module__}:{domain.__qualname__}",
            }
            for name, domain in found.items()
        ]
        print(json.dumps(rows))
        return
    width = max(map(len, found))
    for name, domain in found.items():
        print(f"{name:{width}}  {domain.summary}")
