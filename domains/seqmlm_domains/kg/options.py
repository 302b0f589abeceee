"""What the options of the domain may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

from seqmlm.errors import ConfigError
from seqmlm_domains.kg.entities import Collisions
from seqmlm_domains.kg.linearisation import Context, End, Representation

Normalise = Literal["mean", "sum", "pmi"]
"""How the likelihoods of an entity's tokens make a score."""

_CHOICES: Final = {
    "entities": get_args(Representation),
    "end": get_args(End),
    "collisions": get_args(Collisions),
    "context": get_args(Context),
    "normalise": get_args(Normalise),
}
_SHARES: Final = {"id_dropout": "[0, 1)", "text_share": "[0, 1]", "relation_share": "[0, 1]"}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse an option outside what is allowed.

    Args:
        options: all of :class:`~seqmlm_domains.kg.domain.KnowledgeGraphDomain`, by name.

    Raises:
        ConfigError: it names the option, what was given and what is allowed.
    """
    for key, allowed in _CHOICES.items():
        if options[key] not in allowed:
            raise ConfigError(
                f"domain.{key} = {options[key]!r}: it is one of {', '.join(allowed)}."
            )
    for key, limits in _SHARES.items():
        share = options[key]
        if not 0 <= share <= 1 or (share == 1 and limits == "[0, 1)"):
            raise ConfigError(f"domain.{key} = {share}: it is a share in {limits}.")
    if options["max_name_tokens"] < 2 or options["max_description_tokens"] < 0:
        raise ConfigError(
            f"domain.max_name_tokens = {options['max_name_tokens']} and "
            f"domain.max_description_tokens = {options['max_description_tokens']}: at least 2 and "
            "0."
        )
