"""What a finished run leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqmlm.evaluation.decisions import ObjectiveScores
from seqmlm.evaluation.report import EvaluationReport


@dataclass(frozen=True)
class TrainingResult:
    """The folder of a finished run and its final evaluation.

    Args:
        folder: of the run; ``seqmlm.load`` reads it.
        report: the final evaluation of predicted tokens; None without validation, on ranks other
            than the first, and if no objective of the run predicts tokens.
        plots: PNG files written.
        objectives: the final evaluation of the objectives that are measured in their own form,
            by name: those that predict no tokens, and the parts of a mixture.
        measures: the domain's own, of the final evaluation, by name.
    """

    folder: Path
    report: EvaluationReport | None
    plots: list[Path]
    objectives: Mapping[str, ObjectiveScores] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """All of the final evaluation as plain JSON values; None without any."""
        content = {} if self.report is None else self.report.to_json()
        if self.objectives:
            content["objectives"] = {
                name: scores.to_json() for name, scores in self.objectives.items()
            }
        if self.measures:
            content["measures"] = dict(self.measures)
        return content or None
