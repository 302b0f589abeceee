"""What a model expects at residues of a sequence, some of them hidden from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from seqmlm.data.packing import pack
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Row, Targets
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE, VOCABULARY, encode

FloatArray = npt.NDArray[np.float64]
TokenArray = npt.NDArray[np.uint8]

SPECIAL_TOKENS: Final = 2
_TARGETS: Final = "residue"


@dataclass(frozen=True, slots=True)
class Question:
    """Sites of one sequence whose residues are asked for, from one pass over a window.

    Args:
        tokens: uint8 ``[n]``, the whole sequence.
        sites: to be predicted, increasing, within the window.
        hidden: those that the mask token stands for.
        start: first site of the window.
        end: one past its last.
    """

    tokens: TokenArray
    sites: tuple[int, ...]
    hidden: tuple[int, ...]
    start: int
    end: int


def window_around(first: int, last: int, *, length: int, room: int) -> tuple[int, int]:
    """Return start and end of the window centred on the sites ``first`` to ``last``.

    At the ends of the sequence it is moved inside, so it always has ``room`` residues, or all.

    Args:
        first: site.
        last: site, less than ``room`` after ``first``.
        length: of the sequence.
        room: residues in a window.
    """
    centre = (first + last + 1) // 2
    start = min(max(centre - room // 2, 0), max(length - room, 0))
    return start, min(start + room, length)


def residue_log_probabilities(
    model: Model, questions: Iterable[Question], *, tokens_per_batch: int
) -> Iterator[FloatArray]:
    """Yield for each question log p of the 20 residues at its sites, float64 ``[sites, 20]``, nats.

    Columns are in the order of ``STANDARD_RESIDUES``; the probabilities of a site sum to 1.
    Questions are taken as they come: one batch of them exists at a time.

    Args:
        model: in inference mode, of the protein domain.
        questions: any number.
        tokens_per_batch: most tokens at once; a longer row goes alone.
    """
    batch: list[Question] = []
    tokens = 0
    for question in questions:
        length = question.end - question.start + SPECIAL_TOKENS
        if batch and tokens + length > tokens_per_batch:
            yield from _answer(model, batch)
            batch, tokens = [], 0
        batch.append(question)
        tokens += length
    if batch:
        yield from _answer(model, batch)


def _answer(model: Model, questions: list[Question]) -> list[FloatArray]:
    batch = pack([_row(question) for question in questions]).to(model.device)
    targets = batch.targets[_TARGETS]
    residues = torch.arange(*RESIDUE_RANGE, device=model.device).expand(len(targets.rows), -1)
    found = model.log_probabilities_at(batch, targets, residues)
    values = found.to("cpu", torch.float64).numpy()
    ends = np.cumsum([len(question.sites) for question in questions])
    return np.split(values, ends[:-1])


def _row(question: Question) -> Row:
    encoding = encode(question.tokens[question.start : question.end])
    # One more than in the window: the start token comes first. Two published scorers forget it
    # (facebookresearch/esm predict.py and ProteinGym, "pseudo-ppl").
    shift = 1 - question.start
    ids = encoding.ids.copy()
    ids[[site + shift for site in question.hidden]] = VOCABULARY.special.mask
    positions = np.array([site + shift for site in question.sites], np.int32)
    return Row.of(encoding, ids, {_TARGETS: Targets(positions, encoding.ids[positions])})
