"""One optimizer step: the same numbers however its rows are spread over ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from seqmlm.data.packing import PackedBatch
from seqmlm.masking.counts import NUM_COUNTS, MaskCounts
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Objective
from seqmlm.training.distributed import Processes
from seqmlm_kernels import rejected_targets

NATS_PER_TOKEN = "loss, nats per token"


class LossModule(nn.Module):
    """Model and objectives as one module: batch in, summed losses out.

    Args:
        model: shared by all objectives.
        objectives: in the order of their weights.
    """

    def __init__(self, model: Model, objectives: Sequence[Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives

    def forward(self, batch: PackedBatch) -> Tensor:
        """Return the summed loss of each objective's terms, float32 ``[terms]``, nats."""
        for objective in self.objectives:
            batch = objective.complete(self.model, batch)
        hidden = self.model(batch)
        sums = [objective.loss(self.model, hidden, batch) for objective in self.objectives]
        return torch.cat([loss.total.reshape(-1).float() for loss in sums])


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step computed, over all ranks.

    Args:
        loss: weighted sum of the objectives' mean losses, nats.
        gradient_norm: before clipping.
        tokens: tokens the encoder saw.
        masking: by objective, what its masking policy did.
        losses: mean loss, nats, of each term of the objectives by its name, unweighted; without
            the terms that had no target, and empty where the loss has a single term.
    """

    loss: float
    gradient_norm: float
    tokens: int
    masking: Mapping[str, MaskCounts] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_finite(self) -> bool:
        """Whether the weights may be updated with it."""
        return bool(torch.isfinite(torch.tensor([self.loss, self.gradient_norm])).all())


@dataclass(frozen=True)
class Stepper:
    """Computes gradients of the global mean loss, and applies them if they are finite.

    Args:
        module: a :class:`LossModule`, parallelised.
        objectives: those of the module.
        weights: float32 ``[objectives]``, of their mean losses.
        optimizer: over the module's parameters.
        processes: of the run.
        clip_norm: longest gradient.
        autocast: whether the forward pass runs in bfloat16.
    """

    module: nn.Module
    objectives: Sequence[Objective]
    weights: Tensor
    optimizer: torch.optim.Optimizer
    processes: Processes
    clip_norm: float
    autocast: bool

    @property
    def loss_label(self) -> str:
        """What the loss of a step is, and its unit."""
        weights = self._term_weights().tolist()
        if weights != [1.0]:
            return "weighted loss"
        return NATS_PER_TOKEN if self.objectives[0].predicts_tokens else "loss, nats per target"

    def step(self, micro_batches: Sequence[PackedBatch], *, learning_rate: float) -> StepResult:
        """Do one step over this rank's micro-batches.

        The loss is global sum / global count, not a mean of means: ranks hide different numbers of
        tokens. A step whose loss or gradient is not finite leaves weights and optimizer untouched.
        """
        device = self.processes.device
        weights = self._term_weights()
        totals = torch.zeros_like(weights)
        sizes = self._global_counts(micro_batches)
        counts = sizes[: len(weights)]
        # Averaging over ranks divides by their number; the loss must be summed over them.
        scale = weights * self.processes.world_size / counts.clamp(min=1e-9)
        self.optimizer.zero_grad()
        for index, batch in enumerate(micro_batches):
            is_last = index == len(micro_batches) - 1
            with self._synchronised(is_last), self._precision():
                sums = self.module(batch.to(device))
            with self._synchronised(is_last):
                (sums * scale).sum().backward()
            totals += sums.detach()
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.clip_norm)
        means = self.processes.sum(totals) / counts.clamp(min=1e-9)
        loss = (weights * means).sum()
        global_loss, gradient_norm, *term_losses = torch.stack([loss, norm, *means]).tolist()
        tokens, masking = self._realised(sizes[len(weights) :])
        losses = self._by_term(term_losses, counts.tolist())
        result = StepResult(global_loss, gradient_norm, tokens, masking, losses)
        if result.is_finite:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
        return result

    def _term_weights(self) -> Tensor:
        """Of all objectives' terms one after the other, float32."""
        terms = [list(objective.terms.values()) for objective in self.objectives]
        within = torch.tensor([weight for each in terms for weight in each])
        sizes = torch.tensor([len(each) for each in terms])
        return self.weights.repeat_interleave(sizes.to(self.weights.device)) * within.to(
            self.weights
        )

    def _by_term(self, losses: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
        """The mean losses of terms that had targets, if there are several terms."""
        if len(losses) == 1:
            return {}
        terms = [term for objective in self.objectives for term in objective.terms]
        found = zip(terms, losses, counts, strict=True)
        return {term: loss for term, loss, count in found if count}

    def take_rejected_targets(self) -> int:
        """Return how many targets since the last call lay outside what may be predicted there.

        Such a target has loss 0 and no gradient, and means that an objective is at fault. Waits
        for the device.
        """
        counter = rejected_targets(self.processes.device)
        count = int(counter)
        counter.zero_()
        return count

    def _global_counts(self, micro_batches: Sequence[PackedBatch]) -> Tensor:
        """Targets of each term, tokens, then mask counts of each objective, over all ranks.

        One reduction; float64 holds the numbers exactly.
        """
        targets = [
            sum(objective.count(batch, term) for batch in micro_batches)
            for objective in self.objectives
            for term in objective.terms
        ]
        masking = [
            sum((_masking(objective, batch) for batch in micro_batches), start=MaskCounts())
            for objective in self.objectives
        ]
        local = [
            *targets,
            sum(batch.num_tokens for batch in micro_batches),
            *(number for counts in masking for number in counts.numbers()),
        ]
        return self.processes.sum(
            torch.tensor(local, dtype=torch.float64, device=self.processes.device)
        )

    def _realised(self, totals: Tensor) -> tuple[int, dict[str, MaskCounts]]:
        """Tokens, and the counts of each objective that masked; waits for the device."""
        tokens, *numbers = (int(number) for number in totals.tolist())
        found = {
            objective.name: MaskCounts.from_numbers(numbers[index * NUM_COUNTS :][:NUM_COUNTS])
            for index, objective in enumerate(self.objectives)
        }
        return tokens, {name: counts for name, counts in found.items() if counts.sequences}

    def _synchronised(self, is_last: bool) -> AbstractContextManager[None]:
        if is_last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(
            self.processes.device.type, dtype=torch.bfloat16, enabled=self.autocast
        )


def _masking(objective: Objective, batch: PackedBatch) -> MaskCounts:
    return batch.targets_for(objective.name).masking or MaskCounts()
