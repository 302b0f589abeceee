"""Linear probes of every layer, with control tasks that show what the probe learns by itself."""

# M examples, E hidden size, C classes

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqmlm.analysis.estimate import Estimate, clustered_mean
from seqmlm.analysis.labels import LabelledText
from seqmlm.analysis.logistic import fit_logistic
from seqmlm.analysis.run import AnalysedRun
from seqmlm.analysis.word_states import WordStates, word_states
from seqmlm.errors import ConfigError, DataError

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ProbeScores:
    """A probe of one layer on the test documents.

    Args:
        layer: 0 for the embeddings, else the layer whose output was read.
        accuracy: share of the test words that got their label.
        balanced_accuracy: mean over the labels of the share of their words that got it.
        control_accuracy: the same share for the random labels of the control task.
        selectivity: accuracy less control accuracy, paired by word.
    """

    layer: int
    accuracy: Estimate
    balanced_accuracy: float
    control_accuracy: Estimate
    selectivity: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "layer": self.layer,
            "accuracy": self.accuracy.to_json(),
            "balanced_accuracy": self.balanced_accuracy,
            "control_accuracy": self.control_accuracy.to_json(),
            "selectivity": self.selectivity.to_json(),
        }


@dataclass(frozen=True)
class ProbeReport:
    """Probes of every layer.

    Args:
        layers: from the embeddings on.
        labels: how often each label occurs in training and test.
        majority_accuracy: of always saying the most frequent label of the training documents.
        majority_balanced_accuracy: the balanced accuracy of that.
        train_words: examples the probes were fitted to.
        test_words: examples they were scored on.
        documents: in training and in test.
        words_without_token: labelled words of which the tokenizer leaves nothing, left out.
    """

    layers: tuple[ProbeScores, ...]
    labels: dict[str, int]
    majority_accuracy: float
    majority_balanced_accuracy: float
    train_words: int
    test_words: int
    documents: tuple[int, int]
    words_without_token: int

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "labels": self.labels,
            "majority_accuracy": self.majority_accuracy,
            "majority_balanced_accuracy": self.majority_balanced_accuracy,
            "train_words": self.train_words,
            "test_words": self.test_words,
            "train_documents": self.documents[0],
            "test_documents": self.documents[1],
            "words_without_token": self.words_without_token,
            "layers": [scores.to_json() for scores in self.layers],
        }


def analyse_probe(
    run: AnalysedRun,
    texts: Sequence[LabelledText],
    *,
    joined_by: str = " ",
    test_share: float = 0.3,
    seed: int = 0,
    tokens_per_batch: int = 8192,
    on_progress: Callable[[str], None] = lambda doing: None,
) -> ProbeReport:
    """Fit a linear probe to the frozen states of every layer, and one to a control task.

    The control task (Hewitt and Liang, arXiv 1909.03368) gives every word type one random label,
    drawn from the distribution of the true labels. Who can only memorise words solves it as well:
    selectivity is what the states tell beyond. Of texts with a label of their own the type is the
    text; where texts do not recur, the control can only be guessed.

    Args:
        run: its encoder is frozen; a causal one reads as it was trained to.
        texts: with their labels.
        joined_by: between words: `` `` for text, nothing for residues.
        test_share: of the documents, in (0, 1); training and test share no document.
        seed: of the split and of the control labels.
        tokens_per_batch: bounds the memory of the encoder; results do not depend on it.
        on_progress: told what is done.

    Raises:
        ConfigError: ``test_share`` is out of range.
        DataError: a text cannot be encoded, or there are fewer than two labels or documents.
    """
    if not 0 < test_share < 1:
        raise ConfigError(f"test share = {test_share}: must be between 0 and 1.")
    names = sorted({label for text in texts for label in text.labels})
    if len(names) < 2:
        raise DataError(
            f"All labels are {names[0]!r}: a probe needs at least two different labels."
        )
    on_progress("reading the states of every layer")
    words = word_states(run, texts, joined_by=joined_by, tokens_per_batch=tokens_per_batch)
    is_test = split_documents(words.documents, test_share, seed)
    classes = np.searchsorted(names, words.labels)
    control = control_classes(words.types, classes, seed)
    trained, counts = np.unique(classes[~is_test], return_counts=True)
    if len(trained) < 2:
        raise DataError(
            f"The training documents hold the label {names[trained[0]]!r} alone. Give more "
            "documents, or another --seed."
        )
    is_majority = classes[is_test] == trained[np.argmax(counts)]
    layers = []
    for layer in range(len(words.states)):
        on_progress(f"probing layer {layer} of {len(words.states) - 1}")
        layers.append(_probe_layer(layer, words, classes, control, is_test, len(names)))
    return ProbeReport(
        layers=tuple(layers),
        labels=dict(Counter(words.labels.tolist()).most_common()),
        majority_accuracy=float(is_majority.mean()),
        majority_balanced_accuracy=balanced_accuracy(is_majority, classes[is_test]),
        train_words=int((~is_test).sum()),
        test_words=int(is_test.sum()),
        documents=(
            len(np.unique(words.documents[~is_test])),
            len(np.unique(words.documents[is_test])),
        ),
        words_without_token=words.without_token,
    )


def split_documents(
    documents: npt.NDArray[np.str_], test_share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Say of each example whether its document is one of the test, bool ``[M]``.

    Raises:
        DataError: there is only one document.
    """
    names = np.unique(documents)
    if len(names) < 2:
        raise DataError(
            "All labelled texts are of one document: training and test must not share one. Give "
            "more documents, or mark where they begin (field 'document', or lines '# newdoc')."
        )
    count = min(max(1, round(test_share * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(names)[:count]
    is_test: npt.NDArray[np.bool_] = np.isin(documents, chosen)
    return is_test


def control_classes(types: npt.NDArray[np.str_], classes: IntArray, seed: int) -> IntArray:
    """Give all words of one type the same random class, drawn as often as the true classes are.

    Args:
        types: ``[M]``, the words.
        classes: int64 ``[M]``, their true classes.
        seed: of the draw.
    """
    names, index = np.unique(types, return_inverse=True)
    # Not the generator of the split: whether a word is tested must not tell its class.
    drawn = np.random.default_rng([seed, 1]).choice(classes, len(names))
    control: IntArray = drawn[index]
    return control


def balanced_accuracy(is_correct: npt.NDArray[np.bool_], classes: IntArray) -> float:
    """Return the mean over the classes that occur of the share of their examples that is right."""
    return float(np.mean([is_correct[classes == name].mean() for name in np.unique(classes)]))


def _probe_layer(
    layer: int,
    words: WordStates,
    classes: IntArray,
    control: IntArray,
    is_test: npt.NDArray[np.bool_],
    num_classes: int,
) -> ProbeScores:
    states, documents = words.states[layer], words.documents[is_test]
    is_correct = _is_correct(states, classes, is_test, num_classes)
    is_control_correct = _is_correct(states, control, is_test, num_classes)
    gain = is_correct.astype(np.float64) - is_control_correct
    return ProbeScores(
        layer,
        accuracy=clustered_mean(is_correct, documents),
        balanced_accuracy=balanced_accuracy(is_correct, classes[is_test]),
        control_accuracy=clustered_mean(is_control_correct, documents),
        selectivity=clustered_mean(gain, documents),
    )


def _is_correct(
    states: Tensor, classes: IntArray, is_test: npt.NDArray[np.bool_], num_classes: int
) -> npt.NDArray[np.bool_]:
    train = torch.from_numpy(~is_test)
    probe = fit_logistic(states[train], torch.from_numpy(classes[~is_test]), num_classes)
    correct: npt.NDArray[np.bool_] = probe.predict(states[~train]).numpy() == classes[is_test]
    return correct
