"""AdamW, and its learning rate as a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from seqmlm.config import OptimizerSection


def build_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.AdamW:
    """Return AdamW (arXiv 1711.05101) whose weight decay spares biases, norms and embeddings.

    Decaying those pulls rare tokens and scales to zero without regularising the function.
    """
    embeddings = {
        parameter
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    parameters = list(model.parameters())
    decayed = [p for p in parameters if p.dim() > 1 and p not in embeddings]
    spared = [p for p in parameters if p.dim() <= 1 or p in embeddings]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": section.weight_decay},
            {"params": spared, "weight_decay": 0.0},
        ],
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.epsilon,
        fused=True,
    )


def learning_rate(step: int, section: OptimizerSection, *, steps: int) -> float:
    """Return the learning rate of one step.

    Linear warm-up, then ``cosine`` or ``linear`` down to ``final_fraction`` of the peak, or
    ``warmup_stable_decay`` (arXiv 2405.18392), which is flat and falls linearly over the last
    ``decay_fraction`` of the run, or ``constant``.

    Args:
        step: from 1 to ``steps``.
        section: peak and shape.
        steps: of the whole run.
    """
    peak = section.learning_rate
    if step <= section.warmup_steps:
        return peak * step / section.warmup_steps
    progress = (step - section.warmup_steps) / max(steps - section.warmup_steps, 1)
    floor = section.final_fraction
    if section.schedule == "cosine":
        return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)
    if section.schedule == "linear":
        return peak * (floor + (1 - floor) * (1 - progress))
    if section.schedule == "warmup_stable_decay":
        left = (1 - progress) / section.decay_fraction
        return peak * (floor + (1 - floor) * min(left, 1.0))
    return peak
