"""How much more, or less, probable a model finds a variant than the wild type.

With x the wild type, M the mutated sites, x_-M the wild type with M masked:

===================  =========================================================================
wt-marginal          sum over i in M of log p(mutant_i | x) - log p(x_i | x): one pass
masked-marginal      sum over i in M of log p(mutant_i | x_-i) - log p(x_i | x_-i): each site is
                     masked alone, as ProteinGym does; one pass for each mutated site
random-mask          sum over i in M of the mean, over random sets R of sites with i in them, of
                     log p(mutant_i | x_-R) - log p(x_i | x_-R): what a model says that was trained
                     with much of its context hidden, and so must not be shown all of it. Passes:
                     draws / mask rate, however many sites are mutated
joint-mask           masked-marginal given x_-M, all sites masked together, as in the paper of
                     ESM-1v (Meier et al. 2021, https://doi.org/10.1101/2021.07.09.450648); one
                     pass for each different set of sites
pseudo-likelihood    sum over all residues of log p(residue | all others), that of the variant less
                     that of the wild type; the only one that takes insertions and deletions. One
                     pass for every residue of every variant. A longer variant has more terms, all
                     negative: compare lengths with care
===================  =========================================================================

For one mutation, masked-marginal and joint-mask are the same. Probabilities are among the 20
standard residues; scores are in nats, higher is more probable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args

import numpy as np

from seqmlm.config import read_config_file, validate
from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import ConfigError, DataError, suggestion
from seqmlm.model.model import Model
from seqmlm.objectives.trained import require_masks
from seqmlm.training.distributed import choose_device
from seqmlm_domains.protein.domain import ProteinDomain
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE, VOCABULARY
from seqmlm_domains.protein.variants.hidden_residues import SPECIAL_TOKENS, FloatArray, TokenArray
from seqmlm_domains.protein.variants.notation import (
    UnscorableVariantError,
    Variant,
    parse_variant,
    refuse_non_standard,
)
from seqmlm_domains.protein.variants.offset import OffsetChoice, choose_offset
from seqmlm_domains.protein.variants.passes import Passes, RandomMasks, Target

Given = TypeVar("Given")
Made = TypeVar("Made")

Method = Literal["wt-marginal", "masked-marginal", "random-mask", "joint-mask", "pseudo-likelihood"]

METHODS: Final[tuple[Method, ...]] = get_args(Method)

DEFAULT_MASKS: Final = RandomMasks()

LONGEST_WITHOUT_RUN: Final = 1024
"""Tokens in a window where no run says how long its rows were; that of ESM-2."""


@dataclass(frozen=True, slots=True)
class VariantScore:
    """The score of one variant, or why it has none.

    Args:
        variant: as given.
        score: nats; above 0 the variant is more probable than the wild type. None without one.
        reason: why there is no score; empty where there is one.
        substitutions: index of each changed residue, counted from 0, and its new letter; empty for
            the wild type. None without a score, and where insertions or deletions moved residues.
    """

    variant: str
    score: float | None
    reason: str = ""
    substitutions: tuple[tuple[int, str], ...] | None = None


@dataclass(frozen=True)
class VariantScores:
    """The scores of many variants of one wild type.

    Args:
        items: in the order given.
        wild_type: one-letter codes as read.
        method: how they were scored.
        numbering: what the numbers in the mutations count from.
        window: residues that the model sees at once, centred on the mutated sites; None where it
            sees the whole protein.
    """

    items: tuple[VariantScore, ...]
    wild_type: str
    method: Method
    numbering: OffsetChoice
    window: int | None

    @property
    def values(self) -> FloatArray:
        """Float64 ``[variants]``, nats; NaN where there is no score."""
        return np.array([math.nan if x.score is None else x.score for x in self.items])

    @property
    def num_scored(self) -> int:
        """How many have a score."""
        return sum(item.score is not None for item in self.items)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; a variant without a score has null there."""
        return {
            "method": self.method,
            "wild_type": self.wild_type,
            "window": self.window,
            "numbering": asdict(self.numbering),
            "variants": [
                {"variant": item.variant, "score": item.score, "reason": item.reason}
                for item in self.items
            ],
        }


def mean_scores(each: Sequence[VariantScores]) -> VariantScores:
    """Return the mean over models of the scores of each variant: an ensemble.

    Args:
        each: at least one, of the same variants, wild type and method. The window reported is the
            smallest.
    """
    columns = zip(*(scores.items for scores in each), strict=True)
    items = []
    for column in columns:
        values = [item.score for item in column if item.score is not None]
        if len(values) < len(column):
            items.append(next(item for item in column if item.score is None))
        else:
            items.append(replace(column[0], score=math.fsum(values) / len(values)))
    windows = [scores.window for scores in each if scores.window is not None]
    return replace(each[0], items=tuple(items), window=min(windows, default=None))


class VariantScorer:
    """Scores variants of a protein with a masked model of proteins.

    Args:
        model: of the protein domain, on any device.
        max_length: most tokens of one row, the two special tokens included; longer proteins are
            seen through windows. The model's own limit, or 1,024, if not given.

    Raises:
        ConfigError: the model is of another domain, does not fill in masks, or ``max_length`` is
            out of range.
    """

    def __init__(self, model: Model, *, max_length: int | None = None) -> None:
        if not isinstance(model.domain, ProteinDomain):
            raise ConfigError(
                f"This model is of domain {model.domain.name!r}: variants need one of 'protein'."
            )
        require_masks(model.trained_objectives, "Scoring variants")
        longest = model.encoder.config.longest_sequence
        if max_length is None:
            max_length = min(LONGEST_WITHOUT_RUN, longest or LONGEST_WITHOUT_RUN)
        if max_length <= SPECIAL_TOKENS or max_length > (longest or max_length):
            raise ConfigError(
                f"max_length = {max_length}: must be from {SPECIAL_TOKENS + 1}"
                f"{'' if longest is None else f' to {longest}, the positions of this model'}."
            )
        self.model = model
        self._room = max_length - SPECIAL_TOKENS

    @classmethod
    def load(
        cls,
        run: str | Path,
        *,
        device: str = "auto",
        backend: str = "auto",
        max_length: int | None = None,
    ) -> VariantScorer:
        """Read the model of a run folder, or a model folder.

        Args:
            run: either; a run folder says by its ``data.max_length`` how long windows are.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            backend: of the kernels.
            max_length: see the class.

        Raises:
            CheckpointError: there is no model, or it is damaged.
            ConfigError: see the class.
        """
        model = Model.load(run, device=choose_device(device), backend=backend)
        config = Path(run) / "config.toml"
        if max_length is None and config.is_file():
            max_length = validate(read_config_file(config)).data.max_length
        return cls(model, max_length=max_length)

    def score(
        self,
        wild_type: str,
        variants: Sequence[str],
        *,
        method: Method = "masked-marginal",
        offset: int | None = None,
        masks: RandomMasks = DEFAULT_MASKS,
        tokens_per_batch: int = 8192,
        on_progress: Callable[[int, int], None] = lambda done, passes: None,
    ) -> VariantScores:
        """Score variants; those without a score say why.

        Each different sequence is scored once. Memory: one batch, and 20 numbers for each mutated
        site.

        Args:
            wild_type: one-letter codes; letters beyond the standard 20 are seen by the model, but
                not scored.
            variants: see :mod:`~seqmlm_domains.protein.variants.notation`.
            method: see the module.
            offset: the number that the first residue bears in the mutations; found from the
                wild-type letters if not given.
            masks: of method ``random-mask``; best near the rate that the model was trained with.
            tokens_per_batch: bounds the memory; results do not depend on it.
            on_progress: called with the passes done and those to do, now and then.

        Raises:
            ConfigError: there is no such method.
            DataError: the wild type is no protein.
        """
        if method not in METHODS:
            raise ConfigError(
                f"method = {method!r}: there is none of that name.{suggestion(method, METHODS)} "
                f"Available: {', '.join(METHODS)}."
            )
        passes = Passes(self.model, self._room, tokens_per_batch, on_progress)
        tokens = self._tokens(wild_type)
        sequence = self.model.domain.decode(tokens.tolist())
        parsed, unread = _sort_out(enumerate(variants), parse_variant)
        numbering = choose_offset(
            sequence, (variant.mutations for variant in parsed.values()), offset=offset
        )
        targets, unplaced = _sort_out(
            parsed.items(),
            lambda variant: _target(variant, sequence, numbering.offset, method, passes),
        )
        distinct = list(dict.fromkeys(targets.values()))
        with self.model.inference():
            values = self._score(tokens, distinct, method, passes, masks)
        found = dict(zip(distinct, values, strict=True))
        reasons = unread | unplaced
        return VariantScores(
            items=tuple(
                VariantScore(text, None, reasons[index])
                if index in reasons
                else VariantScore(text, found[targets[index]], "", _substitutions(targets[index]))
                for index, text in enumerate(variants)
            ),
            wild_type=sequence,
            method=method,
            numbering=numbering,
            window=self._room if len(tokens) > self._room else None,
        )

    def _tokens(self, wild_type: str) -> TokenArray:
        record = Record("wild type", wild_type, "wild type", 1)
        tokens = self.model.domain.tokenize([record], ReadReport()).tokens.astype(np.uint8)
        if not len(tokens):
            raise DataError("wild type: there is no residue.")
        return tokens

    def _score(
        self,
        wild_type: TokenArray,
        targets: Sequence[Target],
        method: Method,
        passes: Passes,
        masks: RandomMasks,
    ) -> list[float]:
        if method == "pseudo-likelihood":
            sequences = [wild_type, *(_encode(target.sequence) for target in targets)]
            of_wild_type, *values = passes.pseudo_log_likelihoods(sequences)
            return [value - of_wild_type for value in values]
        if method == "joint-mask":
            sets = list(dict.fromkeys(target.sites for target in targets if target.sites))
            jointly = passes.jointly_masked(wild_type, sets)
            return [
                _log_odds(wild_type, target, dict(zip(target.sites or (), rows, strict=True)))
                for target in targets
                for rows in [jointly[target.sites] if target.sites else ()]
            ]
        sites = sorted({site for target in targets for site in target.sites or ()})
        if method == "random-mask":
            rows = passes.randomly_masked(wild_type, sites, masks)
        else:
            rows = (passes.unmasked if method == "wt-marginal" else passes.masked)(wild_type, sites)
        return [_log_odds(wild_type, target, rows) for target in targets]


def _sort_out(
    items: Iterable[tuple[int, Given]], step: Callable[[Given], Made]
) -> tuple[dict[int, Made], dict[int, str]]:
    """Take every item a step further; what cannot be goes with the reason."""
    made: dict[int, Made] = {}
    reasons: dict[int, str] = {}
    for index, item in items:
        try:
            made[index] = step(item)
        except UnscorableVariantError as error:
            reasons[index] = str(error)
    return made, reasons


def _target(
    variant: Variant, wild_type: str, offset: int, method: Method, passes: Passes
) -> Target:
    sequence = variant.applied_to(wild_type, offset=offset)
    if variant.moves_residues(wild_type):
        if method != "pseudo-likelihood":
            raise UnscorableVariantError(
                f"insertions and deletions have no {method}: use pseudo-likelihood"
            )
        return Target(sequence, None)
    pairs = zip(wild_type, sequence, strict=True)
    sites = tuple(index for index, (old, new) in enumerate(pairs) if old != new)
    refuse_non_standard("".join(wild_type[site] for site in sites))
    if method == "joint-mask" and not passes.fits(sites):
        raise UnscorableVariantError(
            f"the mutated sites span {sites[-1] - sites[0] + 1} residues, the window of this model "
            f"has {passes.room}: use masked-marginal"
        )
    return Target(sequence, sites)


def _log_odds(wild_type: TokenArray, target: Target, rows: Mapping[int, FloatArray]) -> float:
    """Sum over the sites of log p(mutant) - log p(wild type), nats."""
    low = RESIDUE_RANGE[0]
    mutant = _encode(target.sequence)
    return math.fsum(
        float(rows[site][mutant[site] - low] - rows[site][wild_type[site] - low])
        for site in target.sites or ()
    )


def _encode(sequence: str) -> TokenArray:
    return np.array([VOCABULARY.id_of(letter) for letter in sequence], np.uint8)


def _substitutions(target: Target) -> tuple[tuple[int, str], ...] | None:
    if target.sites is None:
        return None
    return tuple((site, target.sequence[site]) for site in target.sites)
