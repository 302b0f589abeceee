"""Filling several masks of a text so that the tokens fit one another.

What a strategy calls the log-likelihood of its filling x_1 .. x_k (k masks, text c around them):

- ``independent``: sum of log p(x_i | c, all masks), the product of marginals. One pass, but each
  token is drawn as if the others were not there: impossible combinations come out.
- ``sequential``: sum of log p(x_i | c, the masks filled before i), the chain rule. Which mask comes
  next is decided by what is there already (the one whose best token is most probable, of several
  the leftmost), so these are the log-probabilities of one distribution over all fillings. k passes.
- ``left_to_right``: the same in order of position.
- ``gibbs``: sum of log p(x_i | c, all other x), the pseudo-log-likelihood; the distribution that
  Gibbs sampling approaches has no normalised form. Starts from ``sequential``; a sweep draws every
  site anew in random order, given all others (Wang and Cho, arXiv 1902.04094). k passes a sweep,
  and k more rows to score. At temperature 0 it is iterated conditional modes (Besag 1986).

``sequential`` is the default: it repairs what is wrong with ``independent`` at the least cost, and
begins where the context decides most. Conditionals of a masked model need not fit one joint
distribution (Torroba Hennigen and Kim, arXiv 2305.15501), so no strategy is exact in general.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from seqmlm.encoding import Encoding
from seqmlm.errors import ConfigError
from seqmlm.inference.batches import hidden_states
from seqmlm.inference.fill_mask import encode_with_masks
from seqmlm.inference.sampling import Sampling, TokenSampler
from seqmlm.inference.texts import given_texts
from seqmlm.objectives.rows import Row
from seqmlm.objectives.trained import require_masks
from seqmlm.randomness import Purpose, stream

if TYPE_CHECKING:
    from seqmlm.model.model import Model

Strategy = Literal["independent", "sequential", "left_to_right", "gibbs"]


@dataclass(frozen=True, slots=True)
class Infilling:
    """All masks of a text filled.

    Args:
        text: with the masks filled, as the tokenizer gives it back.
        positions: of the masks among the tokens of the text, special tokens included.
        tokens: put there, as written in the vocabulary.
        log_probabilities: of each, nats, at temperature 1, under the condition that the strategy
            states; see :mod:`seqmlm.inference.infill`.
    """

    text: str
    positions: tuple[int, ...]
    tokens: tuple[str, ...]
    log_probabilities: tuple[float, ...]

    @property
    def log_likelihood(self) -> float:
        """Of the filling, nats, as the strategy defines it: the sum over its tokens."""
        return math.fsum(self.log_probabilities)


def infill(
    model: Model,
    texts: Sequence[str],
    *,
    strategy: Strategy,
    sampling: Sampling,
    samples: int,
    sweeps: int,
    seed: int,
    tokens_per_batch: int,
) -> list[list[Infilling]]:
    """See :meth:`seqmlm.model.model.Model.infill`."""
    require_masks(model.trained_objectives, "Infilling")
    if strategy not in get_args(Strategy):
        raise ConfigError(f"strategy = {strategy!r}: it is one of {', '.join(get_args(Strategy))}.")
    for name, number in (("samples", samples), ("sweeps", sweeps)):
        if number < 1:
            raise ConfigError(f"{name} = {number}: must be at least 1.")
    chains = [
        _Chain(encoding, masks.tolist(), stream(seed, Purpose.SAMPLING, sample=number))
        for encoding, masks in (encode_with_masks(model, text) for text in given_texts(texts))
        for number in range(samples)
    ]
    filler = _Filler(model, sampling, tokens_per_batch)
    with model.inference():
        if strategy == "independent":
            filler.draw(chains, filler.every_open_site)
        elif strategy == "left_to_right":
            filler.draw_until_filled(chains, filler.leftmost_site)
        else:
            filler.draw_until_filled(chains, filler.most_confident_site)
        if strategy == "gibbs":
            for _ in range(sweeps):
                filler.sweep(chains)
            filler.score(chains)
    found = [_infilling(model, chain) for chain in chains]
    return [found[start : start + samples] for start in range(0, len(found), samples)]


class _Chain:
    """One filling under construction; it draws from a generator of its own."""

    def __init__(
        self, encoding: Encoding, masks: list[int], generator: np.random.Generator
    ) -> None:
        self.encoding = encoding
        self.masks = masks
        self.generator = generator
        self.ids = encoding.ids.copy()
        self.open = list(masks)
        self.log_probabilities = dict.fromkeys(masks, 0.0)

    def fill(self, site: int, token: int, log_probability: float) -> None:
        self.ids[site] = token
        self.log_probabilities[site] = log_probability
        self.open.remove(site)


ChooseSites = Callable[[Sequence[_Chain], Tensor, Sequence[int]], Sequence[Sequence[int]]]
"""Chains, hidden states of all their tokens, and where each chain's begin, to sites to fill."""


class _Filler:
    def __init__(self, model: Model, sampling: Sampling, tokens_per_batch: int) -> None:
        low, high = model.vocabulary.ranges[model.domain.name]
        self._model = model
        self._mask = model.vocabulary.special.mask
        self._sampler = TokenSampler(model, range(low, high), sampling)
        self._tokens_per_batch = tokens_per_batch

    def draw(self, chains: Sequence[_Chain], choose_sites: ChooseSites) -> None:
        """Fill some open sites of each chain from one forward pass."""
        rows = [Row.of(chain.encoding, chain.ids) for chain in chains]
        for chosen, batch, hidden in hidden_states(
            self._model, rows, tokens_per_batch=self._tokens_per_batch
        ):
            some = [chains[index] for index in chosen]
            starts = batch.cu_seqlens[:-1].tolist()
            sites = choose_sites(some, hidden, starts)
            uniforms = [
                chain.generator.random()
                for chain, its_sites in zip(some, sites, strict=True)
                for _ in its_sites
            ]
            drawn = zip(
                *self._sampler.draw(hidden, _packed(sites, starts, hidden), uniforms), strict=True
            )
            for chain, its_sites in zip(some, sites, strict=True):
                for site in list(its_sites):
                    chain.fill(site, *next(drawn))

    def draw_until_filled(self, chains: Sequence[_Chain], choose_sites: ChooseSites) -> None:
        """Fill sites until none is open."""
        while chains := [chain for chain in chains if chain.open]:
            self.draw(chains, choose_sites)

    def sweep(self, chains: Sequence[_Chain]) -> None:
        """Draw every site of each chain anew, in random order, given all others."""
        orders = [chain.generator.permutation(chain.masks).tolist() for chain in chains]
        for number in range(max(map(len, orders), default=0)):
            some = []
            for chain, order in zip(chains, orders, strict=True):
                if number < len(order):
                    chain.ids[order[number]] = self._mask
                    chain.open = [order[number]]
                    some.append(chain)
            self.draw(some, self.every_open_site)

    def score(self, chains: Sequence[_Chain]) -> None:
        """Set the log-probability of each token to that given all others."""
        sites = [(chain, site) for chain in chains for site in chain.masks]
        rows = []
        for chain, site in sites:
            ids = chain.ids.copy()
            ids[site] = self._mask
            rows.append(Row.of(chain.encoding, ids))
        for chosen, batch, hidden in hidden_states(
            self._model, rows, tokens_per_batch=self._tokens_per_batch
        ):
            some = [sites[index] for index in chosen]
            starts = batch.cu_seqlens[:-1].tolist()
            at = _packed([[site] for _, site in some], starts, hidden)
            tokens = [int(chain.ids[site]) for chain, site in some]
            values = self._sampler.score(hidden, at, tokens)
            for (chain, site), value in zip(some, values, strict=True):
                chain.log_probabilities[site] = value

    def every_open_site(
        self, chains: Sequence[_Chain], hidden: Tensor, starts: Sequence[int]
    ) -> Sequence[Sequence[int]]:
        return [chain.open for chain in chains]

    def leftmost_site(
        self, chains: Sequence[_Chain], hidden: Tensor, starts: Sequence[int]
    ) -> Sequence[Sequence[int]]:
        return [chain.open[:1] for chain in chains]

    def most_confident_site(
        self, chains: Sequence[_Chain], hidden: Tensor, starts: Sequence[int]
    ) -> Sequence[Sequence[int]]:
        rows = _packed([chain.open for chain in chains], starts, hidden)
        confidences = iter(self._sampler.confidence(hidden, rows))
        # max takes the first, that is the leftmost, of several equal ones.
        return [
            [max([(next(confidences), site) for site in chain.open], key=lambda pair: pair[0])[1]]
            for chain in chains
        ]


def _packed(sites: Sequence[Sequence[int]], starts: Sequence[int], hidden: Tensor) -> Tensor:
    """Sites of each chain as positions in the batch, int64 on its device."""
    positions = [start + site for start, its in zip(starts, sites, strict=True) for site in its]
    return torch.tensor(positions, dtype=torch.int64, device=hidden.device)


def _infilling(model: Model, chain: _Chain) -> Infilling:
    return Infilling(
        text=model.domain.decode(chain.ids.tolist()),
        positions=tuple(chain.masks),
        tokens=tuple(model.vocabulary.tokens[chain.ids[site]] for site in chain.masks),
        log_probabilities=tuple(chain.log_probabilities[site] for site in chain.masks),
    )
