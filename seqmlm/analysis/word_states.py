"""The frozen state of each labelled word in every layer."""

# M words, E hidden size

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.analysis.labels import LabelledText
from seqmlm.analysis.layers import recorded_layers
from seqmlm.analysis.run import AnalysedRun
from seqmlm.encoding import Encoding
from seqmlm.errors import DataError
from seqmlm.inference.batches import hidden_states

NO_WORD = -1


@dataclass(frozen=True)
class WordStates:
    """States and labels of the words of some texts, in order.

    Args:
        states: float32 ``[M, E]`` each, on the CPU: the embeddings, then every layer's output;
            the mean over the tokens of a word.
        labels: ``[M]``.
        types: ``[M]``, the words themselves.
        documents: ``[M]``, of the words.
        without_token: words of which the tokenizer leaves nothing; they are not among the M.
    """

    states: tuple[Tensor, ...]
    labels: npt.NDArray[np.str_]
    types: npt.NDArray[np.str_]
    documents: npt.NDArray[np.str_]
    without_token: int


def word_states(
    run: AnalysedRun,
    texts: Sequence[LabelledText],
    *,
    joined_by: str = " ",
    masked_words: Sequence[int] | None = None,
    tokens_per_batch: int = 8192,
) -> WordStates:
    """Read the states of all labelled words; memory: layers + 1 times M x E floats.

    Args:
        run: its encoder reads the texts, a causal one in its direction.
        texts: with their labels.
        joined_by: between the words of a text.
        masked_words: for each text the index of a word whose tokens are replaced by the mask
            token, or -1 for none; all are read as they are if absent.
        tokens_per_batch: bounds the memory of the encoder; results do not depend on it.

    Raises:
        DataError: a text cannot be encoded, or no word has a token.
    """
    aligned = [align_words(run, text, joined_by=joined_by) for text in texts]
    if masked_words is not None:
        mask = np.int32(run.model.vocabulary.special.mask)
        aligned = [
            (replace(encoding, ids=np.where(owners == word, mask, encoding.ids)), owners)
            if word != NO_WORD
            else (encoding, owners)
            for (encoding, owners), word in zip(aligned, masked_words, strict=True)
        ]
    kept = [np.unique(owners[owners != NO_WORD]).tolist() for _, owners in aligned]
    total = sum(len(text.words) for text in texts)
    if not any(kept):
        raise DataError("No labelled word has a token: nothing can be probed.")
    chosen = [(text, word) for text, words in zip(texts, kept, strict=True) for word in words]
    return WordStates(
        states=_states(run, aligned, tokens_per_batch=tokens_per_batch),
        labels=np.array([text.labels[word] for text, word in chosen]),
        types=np.array([text.words[word] for text, word in chosen]),
        documents=np.array([text.document for text, _ in chosen]),
        without_token=total - len(chosen),
    )


def align_words(
    run: AnalysedRun, text: LabelledText, *, joined_by: str
) -> tuple[Encoding, npt.NDArray[np.int64]]:
    """Encode a text, and say which word each token belongs to, -1 for none.

    Tokens belong to the word that holds their first character that is not white space.

    Raises:
        DataError: the text cannot be encoded, or the domain does not say where tokens stand.
    """
    joined = joined_by.join(text.words)
    try:
        encoding = run.model.domain.parse(joined)
    except DataError as error:
        raise DataError(f"{text.place}: {error}") from error
    if encoding.offsets is None:
        raise DataError(
            f"{text.place}: domain {run.model.domain.name!r} does not say where in a text its "
            "tokens stand: words cannot be probed."
        )
    owner_of_character = np.full(len(joined) + 1, NO_WORD, np.int64)
    start = 0
    for index, word in enumerate(text.words):
        owner_of_character[start : start + len(word)] = index
        start += len(word) + len(joined_by)
    owners = np.full(len(encoding), NO_WORD, np.int64)
    for position, (first, end) in enumerate(encoding.offsets.tolist()):
        piece = joined[first:end]
        if piece.strip():
            owners[position] = owner_of_character[first + len(piece) - len(piece.lstrip())]
    return encoding, owners


def _states(
    run: AnalysedRun,
    aligned: Sequence[tuple[Encoding, npt.NDArray[np.int64]]],
    *,
    tokens_per_batch: int,
) -> tuple[Tensor, ...]:
    """The mean state of each word, of all texts one after the other, for every layer."""
    model = run.model
    rows = [run.row(encoding) for encoding, _ in aligned]
    by_text: list[list[Tensor]] = [[] for _ in aligned]
    with model.inference(), recorded_layers(model.encoder) as record:
        for chosen, batch, _ in hidden_states(model, rows, tokens_per_batch=tokens_per_batch):
            layers = torch.stack([states.float().cpu() for states in record.states])
            for listed in (record.states, record.attention_inputs, record.attention_outputs):
                listed.clear()
            starts = batch.cu_seqlens.tolist()
            for text, start, end in zip(chosen, starts[:-1], starts[1:], strict=True):
                by_text[text] = _word_means(layers[:, start:end], aligned[text][1])
    # Joined outside of inference mode, whose tensors refuse autograd: a classifier is fitted.
    return tuple(
        torch.cat([states[layer] for states in by_text])
        for layer in range(len(model.encoder.layers) + 1)
    )


def _word_means(states: Tensor, owners: npt.NDArray[np.int64]) -> list[Tensor]:
    """Mean over the tokens of each word that has one, ``[words, E]`` per layer."""
    belongs = owners != NO_WORD
    _, index, counts = np.unique(owners[belongs], return_inverse=True, return_counts=True)
    sums = states.new_zeros(len(states), len(counts), states.shape[-1])
    sums.index_add_(1, torch.from_numpy(index), states[:, torch.from_numpy(belongs)])
    means = sums / torch.from_numpy(counts)[:, None]
    return list(means)
