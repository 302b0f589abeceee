"""Every choice of a run, as data: TOML in, validated, written back resolved."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seqmlm.errors import ConfigError, suggestion
from seqmlm.registry import DOMAINS

# TOML promises integers of 64 bits; larger ones fail far from where they were written.
NonNegative = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Share = Annotated[float, Field(ge=0, lt=1)]
Schema = TypeVar("Schema", bound=BaseModel)


class Section(BaseModel):
    """A table of the configuration: closed, immutable, finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DomainSection(Section):
    """[domain]: the name, and the options that the domain's constructor takes."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str


class DataSection(Section):
    """[data]: what is read, how it is cut and what is held out."""

    sources: list[str] = Field(
        min_length=1, description="files, folders, glob patterns, or '-' for standard input"
    )
    max_length: Annotated[
        int, Field(ge=3, description="tokens per row, special tokens included")
    ] = 512
    split: Literal["cluster", "random"] = "cluster"
    sampling: Literal["record", "cluster"] = "record"
    validation_fraction: Share = 0.05
    validation_records: Positive = 1000


class ModelSection(Section):
    """[model]: shape and options of the encoder, see EncoderConfig."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    layers: Positive = 4
    hidden_size: Positive = 128
    heads: Positive = 4
    key_value_heads: NonNegative = 0
    feed_forward_size: NonNegative = 0
    activation: Literal["gelu", "geglu"] = "geglu"
    normalisation: Literal["layer", "rms"] = "rms"
    normalisation_epsilon: Annotated[float, Field(gt=0)] = 1e-5
    normalisation_placement: Literal["pre", "post"] = "pre"
    embedding_normalisation: bool = False
    first_attention_normalisation: bool = True
    biases: bool = False
    positions: Literal["rotary", "learned"] = "rotary"
    rotary_base: Annotated[float, Field(gt=0)] = 10_000.0
    local_rotary_base: Annotated[float, Field(ge=0)] = 0.0
    rotary_frequencies: list[float] = []
    max_positions: NonNegative = 0
    position_offset: NonNegative = 0
    segments: NonNegative = 0
    roles: NonNegative = 0
    window: NonNegative = 0
    global_every: Positive = 3
    dropout: Share = 0.0
    token_dropout: bool = False
    head_transform: bool = False
    head_dense_bias: bool = True


class ObjectiveSection(Section):
    """[[objectives]]: the name, its weight, and the options that its constructor takes.

    The label tells two objectives of one name apart; it is the name if not given. An objective
    with ``rows_of`` hides tokens in the rows of the pair objective of this label, and both are
    trained in one pass.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "mlm"
    label: str = ""
    rows_of: str = ""
    weight: Annotated[float, Field(gt=0)] = 1.0


class ScheduleSection(Section):
    """[schedule]: which objectives train when; see objectives/schedule.py."""

    kind: Literal["together", "alternate", "mixture"] = "together"
    blocks: Annotated[str, Field(description="of alternate: epochs and objective, in turn")] = ""
    shares: Annotated[
        dict[str, float], Field(description="of mixture: by objective; equal if empty")
    ] = {}


class OptimizerSection(Section):
    """[optimizer]: AdamW and the schedule of its learning rate."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.98)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 1.0
    schedule: Literal["cosine", "linear", "warmup_stable_decay", "constant"] = "cosine"
    warmup_steps: NonNegative = 50
    decay_fraction: Annotated[float, Field(gt=0, le=1, description="of warmup_stable_decay")] = 0.2
    final_fraction: Share = 0.1


class TrainingSection(Section):
    """[training]: how long, how much at once, how often to look and to save, and where."""

    steps: Positive = 1000
    tokens_per_batch: Positive = 8192
    micro_batches: Positive = 1
    log_every: Positive = 10
    evaluate_every: Positive = 250
    checkpoint_every: Positive = 250
    keep_checkpoints: Positive = 2
    select: Annotated[
        Literal["last", "best"],
        Field(description="the model to export: the last, or the best evaluated"),
    ] = "last"
    patience: Annotated[
        int,
        Field(
            ge=0,
            lt=2**63,
            description="evaluations after warm-up without a better one until it stops; 0: no",
        ),
    ] = 0
    init: Annotated[str, Field(description="folder of a model to start from; empty: none")] = ""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: str = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    backend: Literal["auto", "reference", "torch", "triton"] = "auto"
    attention_backward: Annotated[
        Literal["deterministic", "atomic"],
        Field(description="of triton's gradients: bit-equal between runs, or fewer products"),
    ] = "deterministic"
    compile: bool = False
    non_finite_limit: Positive = 3


class RunConfig(Section):
    """One complete run."""

    domain: DomainSection
    data: DataSection
    model: ModelSection = ModelSection()
    objectives: list[ObjectiveSection] = Field([ObjectiveSection()], min_length=1)
    schedule: ScheduleSection = ScheduleSection()
    optimizer: OptimizerSection = OptimizerSection()
    training: TrainingSection = TrainingSection()

    def to_toml(self) -> str:
        """Return the resolved configuration; reading it back gives an equal one."""
        return tomli_w.dumps(_without_none(self.model_dump(mode="json")))


def read_config_file(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ConfigError: the file is missing or not valid TOML; names file and line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: cannot be read ({error}).") from error
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond all bounds
        raise ConfigError(f"--config {path}: not valid TOML: {error}.") from error


def apply_override(settings: dict[str, Any], assignment: str) -> None:
    """Set one dotted key in place, as in ``--set objectives.0.policy.rate=0.3``.

    The value is read as TOML; what TOML cannot read is taken as a string.

    Raises:
        ConfigError: there is no ``=``, or the path leads through something that has no keys.
    """
    path, separator, text = assignment.partition("=")
    if not separator or not path.strip():
        raise ConfigError(f"--set {assignment}: write it as section.key=value.")
    keys = path.strip().replace("[", ".").replace("]", "").split(".")
    target: Any = settings
    for key in keys[:-1]:
        target = _descend(target, key, path)
    if isinstance(target, list):
        _descend(target, keys[-1], path)
        target[int(keys[-1])] = _parse_value(text.strip())
    elif isinstance(target, dict):
        target[keys[-1]] = _parse_value(text.strip())
    else:
        _descend(target, keys[-1], path)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``overlay`` laid over it: tables merge, all else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        both_tables = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both_tables else value  # type: ignore[arg-type]
    return merged


def validate(settings: Mapping[str, Any]) -> RunConfig:
    """Check plain settings against the schema.

    Raises:
        ConfigError: one line per fault, each with its dotted path, what was given and what is
            allowed.
    """
    return validate_as(RunConfig, settings)


def validate_as(schema: type[Schema], settings: Mapping[str, Any]) -> Schema:
    """Check plain settings against any schema of sections; see :func:`validate`."""
    try:
        return schema.model_validate(settings)
    except ValidationError as error:
        faults = "\n".join(_explain(fault, schema) for fault in error.errors())
        raise ConfigError(faults) from error


def configure(
    *,
    domain: str | None,
    sources: Sequence[str] = (),
    files: Sequence[Path] = (),
    overrides: Sequence[str] = (),
    resumed: Path | None = None,
) -> RunConfig:
    """Put a run's configuration together; what comes later wins.

    The core's defaults; the domain's; without data, the domain's bundled run; the shape of the
    model to start from, if any; the configuration of a resumed run; configuration files in order;
    ``sources``; ``overrides`` in order.

    Args:
        domain: registered name or ``module:Class``; may be left to a file.
        sources: data, replacing that of the files.
        files: TOML.
        overrides: ``section.key=value``.
        resumed: ``config.toml`` of the run to go on with.

    Raises:
        ConfigError: no domain, a file cannot be read, or a setting is not allowed.
        CheckpointError: there is no model to start from.
    """
    given: dict[str, Any] = {}
    for path in ([] if resumed is None else [resumed]) + list(files):
        given = merge(given, read_config_file(path))
    if domain is not None:
        given = merge(given, {"domain": {"name": domain}})
    if sources:
        given = merge(given, {"data": {"sources": list(sources)}})
    _require_tables(given, "domain", "data")
    name = given.get("domain", {}).get("name")
    if name is None:
        raise ConfigError(
            f"No domain: say --domain NAME ({', '.join(DOMAINS.names())}), or --config FILE."
        )
    if not isinstance(name, str):
        raise ConfigError(f"domain.name = {name!r}: it must be a string.")
    has_data = bool(given.get("data", {}).get("sources"))
    has_data |= any(assignment.startswith("data.sources") for assignment in overrides)
    defaults = _domain_defaults(name, bundled=not has_data)
    if resumed is None:
        defaults = _with_shape_of_init(defaults, given, overrides)
    settings = merge(defaults, given)
    for assignment in overrides:
        apply_override(settings, assignment)
    return validate(settings)


def _require_tables(settings: Mapping[str, Any], *sections: str) -> None:
    for section in sections:
        if not isinstance(settings.get(section, {}), Mapping):
            raise ConfigError(
                f"{section} = {settings[section]!r}: it must be a table. Write [{section}] and its "
                "settings below."
            )


def _domain_defaults(name: str, *, bundled: bool) -> dict[str, Any]:
    """The domain's defaults over a bare skeleton, with its bundled run if there is no data."""
    domain = DOMAINS.load(name)
    skeleton = {"domain": {"name": name}, "objectives": [{"name": "mlm"}]}
    defaults = copy.deepcopy(merge(skeleton, domain.default_config()))
    run = domain.bundled_run() if bundled else None
    return defaults if run is None else merge(defaults, copy.deepcopy(run))


def _with_shape_of_init(
    defaults: dict[str, Any], given: Mapping[str, Any], overrides: Sequence[str]
) -> dict[str, Any]:
    """The defaults with the ``[model]`` settings of the model to start from, if there is one.

    Of segments and roles, which a domain may need, the larger number holds.
    """
    _require_tables(given, "training")
    asked = {"training": {"init": given.get("training", {}).get("init", "")}}
    for assignment in overrides:
        if assignment.partition("=")[0].strip() == "training.init":
            apply_override(asked, assignment)
    init = asked["training"]["init"]
    if not init or not isinstance(init, str):
        return defaults
    from seqmlm.model.model_folder import read_model_settings

    shape, own = read_model_settings(Path(init)), defaults.get("model", {})
    for name in ("segments", "roles"):
        shape[name] = max(shape[name], own.get(name, 0))
    return merge(defaults, {"model": shape})


def _explain(fault: Any, schema: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _known_keys(schema, fault["loc"][:-1])
        return (
            f"{path}: unknown key.{suggestion(str(fault['loc'][-1]), known)} "
            f"Known here: {', '.join(known)}."
        )
    if fault["type"] == "missing":
        hint = " Give it with --data." if path == "data.sources" else ""
        return f"{path}: missing.{hint}"
    message = fault["msg"][0].lower() + fault["msg"][1:]
    return f"{path} = {json.dumps(fault['input'], default=str)}: {message}."


def _known_keys(schema: type[BaseModel], path: Iterable[Any]) -> list[str]:
    section: Any = schema
    for part in path:
        if isinstance(part, str):
            section = section.model_fields[part].annotation
    return sorted(section.model_fields)


def _descend(target: Any, key: str, path: str) -> Any:
    """Return ``target[key]``; an absent key of a table becomes an empty table."""
    if isinstance(target, dict):
        return target.setdefault(key, {})
    if isinstance(target, list):
        if key.isdecimal() and int(key) < len(target):
            return target[int(key)]
        raise ConfigError(
            f"--set {path}: {key!r} is not one of the entries 0 to {len(target) - 1}."
        )
    raise ConfigError(f"--set {path}: {key!r} does not lead anywhere: there is a value above it.")


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # also numbers and nesting beyond all bounds
        return text


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
