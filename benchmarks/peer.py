"""The peer: Hugging Face's ESM, trained as its own documentation does, with every fair advantage.

Ids are tokenised beforehand, dropout is 0 as in ESM-2 (its default, 0.1, would also keep it from
the fast attention kernel), masking is one vectorised pass as in ``DataCollatorForLanguageModeling``
with replacements drawn from the residues, AdamW is fused and gradients are set to None.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import EsmConfig, EsmForMaskedLM

from seqmlm.config import OptimizerSection
from seqmlm.data.samples import EVALUATION, EvaluationSample
from seqmlm_domains.protein.tokenizer import RESIDUE_RANGE, VOCABULARY

PADDING, MASK = VOCABULARY.special.padding, VOCABULARY.special.mask
NOT_A_TARGET = -100
MASK_RATE = 0.15

# B rows, L tokens of the longest, V vocabulary


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """Rows padded to the longest.

    Args:
        ids: int64 ``[B, L]``, corrupted.
        attention_mask: int64 ``[B, L]``, 1 where a token is.
        labels: int64 ``[B, L]``, -100 where nothing is predicted.
        num_tokens: without padding.
    """

    ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    num_tokens: int


class Peer:
    """``EsmForMaskedLM``, untrained, with its optimizer.

    Args:
        max_length: longest row, tokens.
        optimizer: settings; those of our own runs.
        seed: of the weights and of the masks.
    """

    def __init__(self, *, max_length: int, optimizer: OptimizerSection, seed: int) -> None:
        torch.manual_seed(seed)
        config = EsmConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=512,
            max_position_embeddings=max_length + 2,
            position_embedding_type="rotary",
            token_dropout=True,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=PADDING,
            mask_token_id=MASK,
            attn_implementation="sdpa",
        )
        self.model = EsmForMaskedLM(config)
        self._clip_norm = optimizer.clip_norm
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.epsilon,
            weight_decay=optimizer.weight_decay,
            fused=True,
        )
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def num_parameters(self) -> int:
        """Number of weights, those of the unused contact head included."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def batch(self, rows: Sequence[Tensor]) -> PaddedBatch:
        """Pad rows of true ids, int64 ``[n]`` each, and corrupt them 80/10/10."""
        ids = pad_sequence(list(rows), batch_first=True, padding_value=PADDING)
        low, high = RESIDUE_RANGE
        draw = torch.rand(ids.shape, generator=self._generator)
        is_target = (draw < MASK_RATE) & (ids >= low) & (ids < high)
        random_ids = torch.randint(low, high, ids.shape, generator=self._generator)
        # One uniform draw decides both: below 80 % of the rate the mask, then 10 % random.
        corrupted = torch.where(is_target & (draw < 0.9 * MASK_RATE), random_ids, ids)
        corrupted = corrupted.masked_fill(is_target & (draw < 0.8 * MASK_RATE), MASK)
        return PaddedBatch(
            ids=corrupted,
            attention_mask=(ids != PADDING).long(),
            labels=ids.masked_fill(~is_target, NOT_A_TARGET),
            num_tokens=sum(map(len, rows)),
        )

    def step(self, batch: PaddedBatch, *, learning_rate: float) -> float:
        """Do one optimizer step; returns the loss, nats per target."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = self.model(
            input_ids=batch.ids, attention_mask=batch.attention_mask, labels=batch.labels
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self._optimizer.step()
        return float(loss.detach())

    def evaluate(self, samples: Sequence[EvaluationSample], *, rows_per_batch: int) -> float:
        """Return the loss on our own evaluation targets, nats.

        Normalised over the 20 residues, as ours is: in its favour, since it need not learn that
        the other 13 tokens never are the answer.
        """
        total, count = 0.0, 0
        by_length = sorted(samples, key=lambda sample: len(sample.row.ids))
        low, high = RESIDUE_RANGE
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(by_length), rows_per_batch):
                batch = by_length[start : start + rows_per_batch]
                rows = [torch.from_numpy(sample.row.ids).long() for sample in batch]
                ids = pad_sequence(rows, batch_first=True, padding_value=PADDING)
                scores = self.model(input_ids=ids, attention_mask=(ids != PADDING).long()).logits
                for row, sample in enumerate(batch):
                    targets = sample.row.targets[EVALUATION]
                    chosen = scores[row, torch.from_numpy(targets.positions).long(), low:high]
                    labels = torch.from_numpy(targets.labels).long() - low
                    total += float(
                        torch.nn.functional.cross_entropy(chosen, labels, reduction="sum")
                    )
                    count += len(labels)
        self.model.train()
        return total / count


def random_batches(
    rows: Sequence[Tensor], *, rows_per_batch: int, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """Yield all rows once in random order: what a plain ``DataLoader(shuffle=True)`` gives."""
    order = torch.randperm(len(rows), generator=generator).tolist()
    for start in range(0, len(order), rows_per_batch):
        yield [rows[index] for index in order[start : start + rows_per_batch]]


def length_grouped_batches(
    rows: Sequence[Tensor], *, rows_per_batch: int, generator: torch.Generator
) -> Iterator[list[Tensor]]:
    """Yield all rows once, similar lengths together, batches in random order.

    The idea of the Hugging Face trainer's ``group_by_length``; off by default there.
    """
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    batches = [
        order[start : start + rows_per_batch] for start in range(0, len(rows), rows_per_batch)
    ]
    for position in torch.randperm(len(batches), generator=generator).tolist():
        yield [rows[index] for index in batches[position]]
