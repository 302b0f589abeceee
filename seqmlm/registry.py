"""Names to classes: built-ins as strings, third parties through entry points, did-you-mean.

Nothing is imported until its name is asked for, so `import seqmlm` stays cheap and the core never
imports a domain.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from seqmlm.errors import ConfigError, UnknownNameError, suggestion


@dataclass(frozen=True)
class Registry:
    """The classes, or instances of one class, that can be named for one noun.

    Args:
        noun: what the entries are, for messages ("domain", "objective").
        builtin: name -> ``module:Class`` of what ships with the project.
        group: entry-point group that third parties add to, such as ``seqmlm.domains``.
        kind: what the entries are instances of.
    """

    noun: str
    builtin: Mapping[str, str]
    group: str
    kind: type[Any] = type

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        return sorted({*self.builtin, *self._entry_points()})

    def load(self, name: str) -> Any:
        """Return what is called ``name``: a built-in, an entry point, or ``module:Class``.

        Raises:
            UnknownNameError: nothing of that name is registered.
            ConfigError: ``module:Class`` cannot be imported, or two packages claim the name.
        """
        if name in self.builtin:
            return self._import(self.builtin[name], name)
        if ":" in name:
            return self._import(name, name)
        found = self._entry_points()
        if name not in found:
            raise UnknownNameError(self.noun, name, {*self.builtin, *found})
        return self._import(found[name].value, name)

    def build(self, settings: Mapping[str, Any], *arguments: Any, where: str) -> Any:
        """Construct the class ``settings["name"]`` with ``arguments`` and the other settings.

        Args:
            settings: ``name`` and keyword arguments of the constructor.
            where: dotted path of the settings in the configuration, for messages.

        A message of the constructor that begins with one of the options gets its dotted path.

        Raises:
            ConfigError: no table with a name, an option the constructor does not take, one it
                needs is missing, or the constructor refuses a value.
        """
        if not isinstance(settings, Mapping) or not isinstance(settings.get("name"), str):
            raise ConfigError(
                f"{where} = {settings!r}: it must be a table with the name of a {self.noun}, such "
                f"as {{ name = {self.names()[0]!r} }}. Available: {', '.join(self.names())}."
            )
        options = {key: value for key, value in settings.items() if key != "name"}
        chosen = self.load(settings["name"])
        parameters = list(inspect.signature(chosen).parameters.values())[len(arguments) :]
        accepted = [parameter.name for parameter in parameters]
        for key in options:
            if key not in accepted:
                raise ConfigError(
                    f"{where}.{key}: {self.noun} {settings['name']!r} has no such option."
                    f"{suggestion(key, accepted)} It takes: {', '.join(accepted) or 'none'}."
                )
        for parameter in parameters:
            if parameter.default is parameter.empty and parameter.name not in options:
                raise ConfigError(
                    f"{where}.{parameter.name}: {self.noun} {settings['name']!r} needs it."
                )
        try:
            return chosen(*arguments, **options)
        except ConfigError as error:
            first_word = re.match(r"\w*", str(error))
            if first_word is None or first_word[0] not in options:
                raise
            raise ConfigError(f"{where}.{error}") from error

    def _entry_points(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in entry_points(group=self.group):
            claimed = self.builtin.get(entry.name) or getattr(found.get(entry.name), "value", None)
            if claimed not in (None, entry.value):
                raise ConfigError(
                    f"Two packages register the {self.noun} {entry.name!r}: "
                    f"{claimed} and {entry.value}. Uninstall one of them."
                )
            found[entry.name] = entry
        return found

    def _import(self, target: str, name: str) -> Any:
        module_name, _, class_name = target.partition(":")
        if not module_name or not class_name or module_name.startswith("."):
            raise ConfigError(f"{self.noun} {name!r}: write it as module:Class.")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise
            hint = (
                " Install the checkout first: pip install -e ."
                if error.name == "seqmlm_domains"
                else " Is it installed, or on PYTHONPATH?"
            )
            raise ConfigError(
                f"{self.noun} {name!r}: no module named {error.name!r}.{hint}"
            ) from error
        if not hasattr(module, class_name):
            public = [key for key in vars(module) if not key.startswith("_")]
            raise ConfigError(
                f"{self.noun} {name!r}: module {module_name!r} has no {class_name!r}."
                f"{suggestion(class_name, public)}"
            )
        found = getattr(module, class_name)
        if not isinstance(found, self.kind):
            expected = "class" if self.kind is type else self.kind.__name__
            raise ConfigError(f"{self.noun} {name!r}: {target} is not a {expected}.")
        return found


DOMAINS = Registry(
    noun="domain",
    builtin={
        "code": "seqmlm_domains.code.domain:CodeDomain",
        "dialogue": "seqmlm_domains.text.dialogue:DialogueDomain",
        "kg": "seqmlm_domains.kg.domain:KnowledgeGraphDomain",
        "protein": "seqmlm_domains.protein.domain:ProteinDomain",
        "text": "seqmlm_domains.text.domain:TextDomain",
    },
    group="seqmlm.domains",
)

OBJECTIVES = Registry(
    noun="objective",
    builtin={
        "mlm": "seqmlm.objectives.mlm:MaskedLanguageModelling",
        "typed_mlm": "seqmlm.objectives.typed_mlm:TypedMaskedLanguageModelling",
        "clm": "seqmlm.objectives.clm:CausalLanguageModelling",
        "prefix_lm": "seqmlm.objectives.prefix_lm:PrefixLanguageModelling",
        "pmlm": "seqmlm.objectives.pmlm:PseudoMaskedLanguageModelling",
        "nsp": "seqmlm.objectives.nsp:NextSentencePrediction",
        "sop": "seqmlm.objectives.sop:SentenceOrderPrediction",
        "ncp": "seqmlm.objectives.ncp:NextCodeFragmentPrediction",
        "rtd": "seqmlm.objectives.rtd:ReplacedTokenDetection",
        "masked_relation": "seqmlm_domains.kg.masked_relation:MaskedRelation",
    },
    group="seqmlm.objectives",
)

SELECTORS = Registry(
    noun="selector",
    builtin={
        "token": "seqmlm.masking.selectors:TokenSelector",
        "unit": "seqmlm.masking.selectors:UnitSelector",
        "span": "seqmlm.masking.runs:SpanSelector",
        "ngram": "seqmlm.masking.runs:NgramSelector",
        "block": "seqmlm.masking.runs:BlockSelector",
        "scored": "seqmlm.masking.scored:ScoredSelector",
        "typed": "seqmlm.masking.typed:TypedSelector",
        "group": "seqmlm.masking.typed:GroupSelector",
        "occurrences": "seqmlm.masking.occurrences:OccurrencesSelector",
    },
    group="seqmlm.selectors",
)

CORRUPTORS = Registry(
    noun="corruptor",
    builtin={
        "mixed": "seqmlm.masking.corruptors:MixedCorruptor",
        "similar": "seqmlm.masking.similar:SimilarCorruptor",
        "counterfactual": "seqmlm.masking.counterfactual:CounterfactualCorruptor",
    },
    group="seqmlm.corruptors",
)
