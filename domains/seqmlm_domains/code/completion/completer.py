"""Completes identifiers: a masked model, what the file says, and what the project says."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
import torch

from seqmlm.errors import ConfigError
from seqmlm.model.model import Model
from seqmlm.objectives.trained import require_masks
from seqmlm.training.distributed import choose_device
from seqmlm_domains.code.completion.completion import (
    ONLY,
    Completion,
    CompletionRequest,
    CompletionResult,
    ExpectedType,
    roles_named,
    types_named,
)
from seqmlm_domains.code.completion.cursor import Cursor, part_around
from seqmlm_domains.code.completion.evidence import SYNTAX_FEATURES, Evidence, FloatArray
from seqmlm_domains.code.completion.main_role import main_role, main_type, role_and_type
from seqmlm_domains.code.completion.mixture import (
    LENGTH_TERMS,
    MODEL_TERMS,
    NEW_TERM,
    sides_of,
    terms_of,
)
from seqmlm_domains.code.completion.name_scorer import NameScorer, NameTokens
from seqmlm_domains.code.completion.names import KnownNames, built_in_names
from seqmlm_domains.code.completion.project import Project, read_trained_length, table_key
from seqmlm_domains.code.completion.type_stage import TypeStage
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.roles import Role
from seqmlm_domains.code.source_tokens import RecentTexts, SourceTokens

_TEXTS_KEPT = 16

_logger = logging.getLogger("seqmlm")

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": (*MODEL_TERMS, *LENGTH_TERMS),
    "ngram": ("ngram left", "ngram right", "project left", "project right", "frequency"),
    "file": ("in file", "distance left", "distance right"),
    # What is new is weighed by all of these together.
    "syntax": (*SYNTAX_FEATURES, NEW_TERM),
}
"""What a completion's ``parts`` are: the terms of the mixture that each adds up, all of them."""


class Completer:
    """Completes names with a trained model.

    One thread at a time may call :meth:`complete_batch`; :meth:`complete_lexically` may run beside
    it on another.

    Args:
        model: of domain ``code``, trained to fill in masks.
        project: names and weights; nothing is known of the project if absent.
        trained_length: tokens of the longest sequence that the model was trained on, where that is
            known: positions that are learned mean nothing beyond it.
        type_stage: of a model that was trained by ``typed_mlm``: names are then predicted by way of
            their types.

    Raises:
        ConfigError: the model is of another domain or does not fill in masks.
    """

    def __init__(
        self,
        model: Model,
        project: Project | None = None,
        *,
        trained_length: int | None = None,
        type_stage: TypeStage | None = None,
    ) -> None:
        self._domain = require_code_domain(model)
        require_masks(model.trained_objectives, "Completion")
        self.model = model
        self.project = Project.unknown() if project is None else project
        self.trained_length = trained_length
        self.type_stage = type_stage
        self._scorer = NameScorer(model, trained_length=trained_length, type_stage=type_stage)
        self._texts = RecentTexts(_TEXTS_KEPT)
        # Now, so that the first answer takes no longer than others.
        self._tokens_outside = {key: self._outside_text(key) for key in map(table_key, LANGUAGES)}
        self._names: WeakKeyDictionary[SourceTokens, KnownNames] = WeakKeyDictionary()
        self._tokens: WeakKeyDictionary[SourceTokens, NameTokens] = WeakKeyDictionary()

    @classmethod
    def load(cls, run: str | Path, *, backend: str = "auto", device: str = "cpu") -> Completer:
        """Read a run folder of ``seqmlm train --domain code``, or its ``model`` folder.

        A run that was never fitted to a project is used with a warning in the log.

        Raises:
            CheckpointError: there is no model, or it or what was fitted beside it is damaged.
            ConfigError: the model is of another domain or fills in no masks, or the backend cannot
                run on the device.
        """
        chosen = choose_device(device)
        import_what_operators_need(chosen)
        model = Model.load(run, device=chosen, backend=backend)
        project = Project.load(Path(run))
        if not project.is_fitted:
            _logger.warning(
                "%s was never fitted to a project: no names but those of the open file are known, "
                "and the weights are what is typical elsewhere. Run `seqmlm code fit %s --data "
                "YOUR_REPOSITORY`.",
                *(run, run),
            )
        return cls(
            model,
            project,
            trained_length=read_trained_length(Path(run)),
            type_stage=TypeStage.load(Path(run), model),
        )

    def complete(
        self,
        source: str,
        offset: int,
        language: str,
        limit: int = 10,
        *,
        roles: Iterable[Role | str] | None = None,
        types: Iterable[str] | None = None,
    ) -> list[Completion]:
        """Return the most probable names at a place of a text, best first.

        See :class:`CompletionRequest` for the arguments; roles may be given by name. A name that
        has none of the roles, or none of the types, has probability zero.

        Raises:
            ConfigError: an argument cannot be meant.
        """
        request = CompletionRequest(
            source=source,
            offset=offset,
            language=language,
            limit=limit,
            roles=None if roles is None else roles_named(roles),
            types=None if types is None else types_named(types),
        )
        return list(self.complete_batch([request])[0].completions)

    def complete_batch(self, requests: Sequence[CompletionRequest]) -> list[CompletionResult]:
        """Answer several requests with one forward pass.

        Raises:
            ConfigError: see :meth:`CompletionRequest.check`.
        """
        found = [self.evidence(request) for request in requests]
        scored = iter(self._scored([evidence for evidence in found if evidence is not None]))
        results = []
        for request, evidence in zip(requests, found, strict=True):
            if evidence is None:
                results.append(CompletionResult(completions=(), used_model=False))
                continue
            terms, types = next(scored)
            chosen = self._choose(request, evidence, terms)
            results.append(CompletionResult(completions=chosen, used_model=True, types=types))
        return results

    def complete_lexically(self, request: CompletionRequest) -> CompletionResult:
        """Answer without the model: a few milliseconds.

        Raises:
            ConfigError: see :meth:`CompletionRequest.check`.
        """
        evidence = self.evidence(request)
        chosen = () if evidence is None else self._choose(request, evidence, evidence.features)
        return CompletionResult(completions=chosen, used_model=False)

    def evidence(self, request: CompletionRequest) -> Evidence | None:
        """Return what is known of all names without the model; None where there is none.

        Raises:
            ConfigError: see :meth:`CompletionRequest.check`.
        """
        request.check()
        source, offset = part_around(request.source, request.offset)
        cursor = Cursor.at(self._texts.tokens(source, request.language), offset)
        if cursor is None:
            return None
        evidence = self.evidence_at(
            cursor, roles=request.roles or None, types=request.types or None
        )
        return evidence if evidence.is_visible.any() and not evidence.syntax.is_text else None

    def evidence_at(
        self,
        cursor: Cursor,
        *,
        roles: frozenset[Role] | None = None,
        types: frozenset[str] | None = None,
    ) -> Evidence:
        """Return what is known of all names at a cursor without the model."""
        return Evidence.at(cursor, self._known(cursor.tokens), roles=roles, types=types)

    def terms(self, places: Sequence[Evidence]) -> list[FloatArray]:
        """Return the terms of the mixture at some places, the model's from one forward pass."""
        return [terms for terms, _ in self._scored(places)]

    def _scored(
        self, places: Sequence[Evidence]
    ) -> list[tuple[FloatArray, tuple[ExpectedType, ...]]]:
        """The terms at some places, and the types that the model expects there."""
        tokens = [self._tokens_of(evidence) for evidence in places]
        scores = self._scorer.score(list(zip(places, tokens, strict=True)))
        return [
            (terms_of(evidence, found.log_likelihoods, own), found.types)
            for evidence, found, own in zip(places, scores, tokens, strict=True)
        ]

    def _known(self, text: SourceTokens) -> KnownNames:
        """The names that may be proposed in a text."""
        if text not in self._names:
            self._names[text] = KnownNames.of(text, self.project.table(text.language))
        return self._names[text]

    def _tokens_of(self, evidence: Evidence) -> NameTokens:
        """The tokens of the names that may be proposed in a text."""
        text = evidence.cursor.tokens
        if text not in self._tokens:
            names = evidence.names
            own = NameTokens.of(names.own[names.of_language :], self._domain)
            self._tokens[text] = self._tokens_outside[table_key(text.language)].followed_by(own)
        return self._tokens[text]

    def _outside_text(self, language: str) -> NameTokens:
        """The tokens of the names of the project and of a language."""
        table = self.project.table(language)
        return NameTokens.of([*table.names, *built_in_names(table, language)], self._domain)

    def _choose(
        self, request: CompletionRequest, evidence: Evidence, terms: FloatArray
    ) -> tuple[Completion, ...]:
        mixture, sides = self.project.mixture(request.language), sides_of(evidence)
        scores = mixture.scores(terms, sides)
        cursor, names = evidence.cursor, evidence.names
        allowed = names.beginning_with(cursor.prefix)
        allowed = allowed[evidence.is_visible[allowed]]
        if not len(allowed):
            allowed = names.beginning_in_any_case(cursor.prefix)
            allowed = allowed[evidence.is_visible[allowed]]
        if not len(allowed):
            return ()
        log_probabilities = scores[allowed] - _log_sum(scores[allowed])
        parts = {
            part: values[allowed] - values[allowed].mean()
            for part, values in mixture.parts(terms, sides, PARTS).items()
        }
        best = _largest(log_probabilities, request.limit)
        is_choice = len(allowed) > 1
        shown = [_role_and_type(int(allowed[place]), evidence) for place in best]
        return tuple(
            Completion(
                text=names[int(allowed[place])],
                start=request.offset - len(cursor.prefix),
                end=request.offset,
                word_end=request.offset + cursor.word_end - cursor.offset,
                score=float(log_probabilities[place]),
                source=max(parts, key=lambda part: parts[part][place]) if is_choice else ONLY,
                parts={part: float(values[place]) for part, values in parts.items()},
                role=role,
                type=type_,
            )
            for place, (role, type_) in zip(best, shown, strict=True)
        )


def import_what_operators_need(device: torch.device) -> None:
    """Import now what torch imports when the first operator of our GPU kernels is called.

    It takes 4 CPU-seconds, in which whoever asks first would wait. On a CPU none is called.
    """
    if device.type != "cpu":
        importlib.import_module("torch._dynamo")


def require_code_domain(model: Model) -> CodeDomain:
    """Return the domain of a model.

    Raises:
        ConfigError: it is another one.
    """
    if not isinstance(model.domain, CodeDomain):
        raise ConfigError(
            f"The model is of domain {model.domain.registered_name!r}; a completer needs one of "
            "domain 'code'."
        )
    return model.domain


def _role_and_type(number: int, evidence: Evidence) -> tuple[Role | None, str | None]:
    """What a name is shown as: where types are asked for, as what it has one of them."""
    names, syntax = evidence.names, evidence.syntax
    if evidence.types is not None:
        return role_and_type(number, names, syntax, evidence.types)
    return main_role(number, names, syntax), main_type(number, names, syntax)


def _largest(values: FloatArray, count: int) -> list[int]:
    """Places of the largest values, the largest first; of equal ones the first."""
    if count < len(values):
        chosen = np.sort(np.argpartition(-values, count - 1)[:count])
    else:
        chosen = np.arange(len(values))
    places: list[int] = chosen[np.argsort(-values[chosen], kind="stable")].tolist()
    return places


def _log_sum(values: FloatArray) -> float:
    largest = float(values.max())
    return largest + math.log(np.exp(values - largest).sum())
