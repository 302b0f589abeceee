"""Passes of a model over a wild type and its variants, and the scores that they add up to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from seqmlm.errors import ConfigError
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
NUM_RESIDUES: Final = RESIDUE_RANGE[1] - RESIDUE_RANGE[0]


@dataclass(frozen=True, slots=True)
class Target:
    """What is scored against the wild type.

    Args:
        sequence: of the variant.
        sites: index of each changed residue, increasing; None where residues have moved.
    """

    sequence: str
    sites: Sites | None


@dataclass(frozen=True, slots=True)
class RandomMasks:
    """How method ``random-mask`` hides residues.

    Args:
        rate: share of the residues that is hidden at once, in (0, 1].
        draws: masks that each site is in.
        seed: of the masks.

    Raises:
        ConfigError: a value is out of range.
    """

    rate: float = 0.3
    draws: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ConfigError(f"mask rate = {self.rate}: must be in (0, 1].")
        if self.draws < 1:
            raise ConfigError(f"mask draws = {self.draws}: must be at least 1.")


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

    def randomly_masked(
        self, tokens: TokenArray, sites: Sequence[int], masks: RandomMasks
    ) -> dict[int, FloatArray]:
        """Return the mean over draws of log p of the 20 residues at each site.

        Each draw deals all residues out into masks of equal size, so that it hides every site once:
        in a protein that fits, ``draws / rate`` passes, however many sites there are.
        """
        wanted = set(sites)
        generator = np.random.default_rng(masks.seed)
        dealt = np.flatnonzero(_is_standard(tokens))
        questions = [
            question
            for _ in range(masks.draws)
            for mask in np.array_split(generator.permutation(dealt), max(round(1 / masks.rate), 1))
            for question in self._hiding_mask(tokens, np.sort(mask), wanted)
        ]
        sums = {site: np.zeros(NUM_RESIDUES) for site in sites}
        for question, rows in zip(questions, self._answers(questions, len(questions)), strict=True):
            for site, row in zip(question.sites, rows, strict=True):
                sums[site] += row
        return {site: total / masks.draws for site, total in sums.items()}

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

    def _hiding_mask(
        self, tokens: TokenArray, mask: npt.NDArray[np.int64], wanted: set[int]
    ) -> Iterator[Question]:
        """The passes that a mask needs: one for each window of its wanted sites."""
        windows = [
            (self._window(tokens, (site,)), site) for site in mask.tolist() if site in wanted
        ]
        for (start, end), group in groupby(windows, key=lambda item: item[0]):
            hidden = mask[(mask >= start) & (mask < end)].tolist()
            yield Question(tokens, tuple(site for _, site in group), tuple(hidden), start, end)

    def _window(self, tokens: TokenArray, sites: Sites) -> tuple[int, int]:
        return window_around(sites[0], sites[-1], length=len(tokens), room=self.room)

    def _answers(
        self, questions: Sequence[Question] | Iterator[Question], total: int
    ) -> Iterator[FloatArray]:
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


def _is_standard(tokens: TokenArray) -> npt.NDArray[np.bool_]:
    low, high = RESIDUE_RANGE
    return (tokens >= low) & (tokens < high)
