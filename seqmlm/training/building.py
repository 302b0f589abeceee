"""The objectives and the model that a configuration describes."""

from __future__ import annotations

from seqmlm.config import ObjectiveSection, RunConfig
from seqmlm.domain import Domain
from seqmlm.errors import ConfigError
from seqmlm.model.configuration import EncoderConfig
from seqmlm.model.model import Model
from seqmlm.objectives.rows import Objective, TrainedObjective
from seqmlm.objectives.shared_rows import check_shared_rows
from seqmlm.registry import OBJECTIVES


def build_objectives(config: RunConfig, domain: Domain) -> list[Objective]:
    """Construct the objectives of a configuration.

    Raises:
        ConfigError: an unknown name or option, two objectives of one label, or rows that cannot
            be shared.
    """
    labels = [_label(item) for item in config.objectives]
    if len(set(labels)) < len(labels):
        raise ConfigError(
            f"objectives: {', '.join(labels)}: each may be listed once. Give the second one of a "
            "name a label of its own, such as label = 'other'."
        )
    objectives: list[Objective] = [
        OBJECTIVES.build(
            item.model_dump(exclude={"weight", "label", "rows_of"}),
            domain,
            where=f"objectives.{position}",
        )
        for position, item in enumerate(config.objectives)
    ]
    for objective, label, item in zip(objectives, labels, config.objectives, strict=True):
        objective.name, objective.rows_of = label, item.rows_of
    check_shared_rows(objectives, schedule=config.schedule.kind)
    return objectives


def _label(item: ObjectiveSection) -> str:
    """What a run calls an objective; one that is named ``module:Class`` has its class's name."""
    if item.label or ":" not in item.name:
        return item.label or item.name
    return str(getattr(OBJECTIVES.load(item.name), "name", item.name))


def encoder_config(config: RunConfig, domain: Domain, objectives: list[Objective]) -> EncoderConfig:
    """Return the encoder's options; token dropout learns the mask rate from the objectives.

    Raises:
        ConfigError: options do not fit one another or the data.
    """
    section = config.model
    encoder = EncoderConfig(
        vocabulary_size=len(domain.vocabulary),
        mask_token=domain.vocabulary.special.mask,
        mask_token_rate=max(objective.mask_token_rate for objective in objectives),
        **section.model_dump(exclude={"head_transform"}),
    )
    if encoder.roles not in (0, domain.num_roles):
        raise ConfigError(
            f"model.roles = {encoder.roles}, but domain {domain.registered_name!r} tells "
            f"{domain.num_roles} roles apart: make them equal, or set model.roles = 0 to leave out "
            "who speaks."
        )
    if 1 < encoder.segments < domain.num_segments:
        raise ConfigError(
            f"model.segments = {encoder.segments}, but domain {domain.registered_name!r} numbers "
            f"{domain.num_segments} segments: set {domain.num_segments}, 1 to give all tokens the "
            "same embedding, or 0 to leave it out."
        )
    longest = encoder.longest_sequence
    if longest is not None and longest < config.data.max_length:
        after = f" - model.position_offset = {longest}" if encoder.position_offset else ""
        raise ConfigError(
            f"model.max_positions = {encoder.max_positions}{after} is less than "
            f"data.max_length = {config.data.max_length}."
        )
    return encoder


def build_model(config: RunConfig, domain: Domain, objectives: list[Objective]) -> Model:
    """Construct the untrained model, with the modules of its objectives."""
    model = Model(
        domain,
        encoder_config(config, domain, objectives),
        head_transform=config.model.head_transform,
        trained_objectives=map(TrainedObjective.of, objectives),
        backend=config.training.backend,
        attention_backward=config.training.attention_backward,
    )
    model.add_objective_modules(objectives)
    return model
