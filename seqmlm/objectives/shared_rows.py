"""Two objectives in one row: one labels the pair, the other hides tokens in it."""

from __future__ import annotations

from collections.abc import Sequence

from seqmlm.errors import ConfigError, suggestion
from seqmlm.objectives.pair import PairObjective
from seqmlm.objectives.policy_objective import PolicyObjective
from seqmlm.objectives.rows import Objective


def check_shared_rows(objectives: Sequence[Objective], *, schedule: str) -> None:
    """Refuse a ``rows_of`` that cannot be followed.

    Args:
        objectives: of a run, with their final names.
        schedule: kind of its schedule.

    Raises:
        ConfigError: the rows are those of no pair objective, two objectives would hide tokens in
            them, the objective hides none, or the schedule trains the two apart.
    """
    taken: dict[str, str] = {}
    for objective in objectives:
        if not objective.rows_of:
            continue
        where = f"objectives: {objective.name}.rows_of = {objective.rows_of!r}"
        _check_pair(objective.rows_of, objectives, where)
        if not isinstance(objective, PolicyObjective):
            raise ConfigError(
                f"{where}: {objective.name} hides no tokens by a policy, so it cannot do so in the "
                "rows of another. Leave rows_of out."
            )
        if objective.rows_of in taken:
            raise ConfigError(
                f"{where}: {taken[objective.rows_of]} already hides tokens there, and what one "
                "hides the other would see. Leave rows_of out of one of them."
            )
        taken[objective.rows_of] = objective.name
        if schedule != "together":
            raise ConfigError(
                f"{where}: schedule.kind = {schedule!r} trains one objective at a time, but the "
                "two share their rows. Use schedule.kind = 'together', or leave rows_of out."
            )


def _check_pair(label: str, objectives: Sequence[Objective], where: str) -> None:
    names = [objective.name for objective in objectives]
    pairs = [objective.name for objective in objectives if isinstance(objective, PairObjective)]
    if label not in names:
        raise ConfigError(
            f"{where}: there is no objective of this label.{suggestion(label, names)} "
            f"Objectives of this run: {', '.join(names)}."
        )
    if label not in pairs:
        raise ConfigError(
            f"{where}: {label} is not an objective on pairs. Those of this run: "
            f"{', '.join(pairs) or 'none'}."
        )
