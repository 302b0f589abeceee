"""Passes of a model over a wild type and its variants, and the scores that they add up to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from seqmlm.model.model import Model
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE
from seqmlm_domains.protein.variants.hidden_residues import (
    FloatArray,
    Question,
    TokenArray,
    residue_log_probabilities,
    window_around,
)

Sites = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """What is scored against the wild type.

    Args:
        sequence: of the variant.
        sites: index of each changed residue, increasing; None where residues have moved.
    """

    sequence: str
    sites: Sites | None


@dataclass(frozen=True)
class Passes:
    """How a model sees proteins: through which window, how much at once.

    Args:
        model: in inference mode.
        room: residues in a window.
        tokens_per_batch: most tokens at once.
        on_progress: called with the passes done and those to do.
    """

    model: Model
    room: int
    tokens_per_batch: int
    on_progress: Callable[[int, int], None]

    def unmasked(self, tokens: TokenArray, sites: Sequence[int]) -> dict[int, FloatArray]:
        """Return log p of the 20 residues at each site, nothing being hidden.

        Sites whose windows are the same share a pass; in a protein that fits, all do.
        """
        windows = ((self._window(tokens, (site,)), site) for site in sites)
        questions = []
        for (start, end), group in groupby(windows, key=lambda item: item[0]):
            questions.append(Question(tokens, tuple(site for _, site in group), (), start, end))
        return _by_site(questions, self._answers(questions, len(questions)))

    def masked(self, tokens: TokenArray, sites: Sequence[int]) -> dict[int, FloatArray]:
        """Return log p of the 20 residues at each site, that site alone being hidden."""
        questions = [self._hiding(tokens, (site,)) for site in sites]
        return _by_site(questions, self._answers(questions, len(questions)))

    def jointly_masked(self, tokens: TokenArray, sets: Sequence[Sites]) -> dict[Sites, FloatArray]:
        """Return log p of the 20 residues at the sites of each set, all of them being hidden."""
        questions = (self._hiding(tokens, sites) for sites in sets)
        return dict(zip(sets, self._answers(questions, len(sets)), strict=True))

    def pseudo_log_likelihoods(self, sequences: Sequence[TokenArray]) -> list[float]:
        """Return the sum over residues of log p(residue | all others) for each sequence, nats."""
        sites = [np.flatnonzero(_is_standard(tokens)).tolist() for tokens in sequences]
        questions = (
            self._hiding(tokens, (site,))
            for tokens, places in zip(sequences, sites, strict=True)
            for site in places
        )
        answers = self._answers(questions, sum(map(len, sites)))
        return [
            math.fsum(float(next(answers)[0, tokens[site] - RESIDUE_RANGE[0]]) for site in places)
            for tokens, places in zip(sequences, sites, strict=True)
        ]

    def fits(self, sites: Sites) -> bool:
        """Whether one window holds all sites."""
        return not sites or sites[-1] - sites[0] < self.room

    def _hiding(self, tokens: TokenArray, sites: Sites) -> Question:
        return Question(tokens, sites, sites, *self._window(tokens, sites))

    def _window(self, tokens: TokenArray, sites: Sites) -> tuple[int, int]:
        return window_around(sites[0], sites[-1], length=len(tokens), room=self.room)

    def _answers(
        self, questions: Sequence[Question] | Iterator[Question], total: int
    ) -> Iterator[FloatArray]:
        with self.model.inference():
            answers = residue_log_probabilities(
                self.model, questions, tokens_per_batch=self.tokens_per_batch
            )
            for done, answer in enumerate(answers, start=1):
                self.on_progress(done, total)
                yield answer


def _by_site(questions: Sequence[Question], answers: Iterator[FloatArray]) -> dict[int, FloatArray]:
    return {
        site: row
        for question, rows in zip(questions, answers, strict=True)
        for site, row in zip(question.sites, rows, strict=True)
    }


def _is_standard(tokens: TokenArray) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    low, high = RESIDUE_RANGE
    return (tokens >= low) & (tokens < high)
