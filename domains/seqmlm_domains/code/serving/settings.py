"""Every choice of the language server and of the HTTP service, from four places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from seqmlm.config import Section, apply_override, merge, read_config_file, validate_as
from seqmlm.errors import ConfigError, UnknownNameError
from seqmlm_domains.code.completion.completion import roles_named

ENVIRONMENT_PREFIX: Final = "SEQMLM_CODE_"

TOKEN_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}TOKEN"
"""Environment variable of the bearer token, which no file of settings and no option may hold."""

CLIENT_SECTION: Final = "seqmlm"
"""Key under which editors send the settings of this server among those of others."""

CLIENT_SETTINGS: Final = (
    "deadline_ms",
    "limit",
    "inline_probability",
    "max_document_characters",
    "roles",
    "types",
)
"""What an editor may change for its own connection; the rest belongs to the process."""


class ServerSettings(Section):
    """Settings of ``seqmlm code serve``, checked; their names are the same everywhere."""

    device: Annotated[str, Field(description="auto, cpu, cuda or cuda:N")] = "auto"
    backend: Annotated[
        Literal["auto", "reference", "torch", "triton"], Field(description="of the kernels")
    ] = "auto"
    deadline_ms: Annotated[
        int,
        Field(ge=1, le=60_000, description="until a lexical answer takes the place of the model's"),
    ] = 300
    limit: Annotated[int, Field(ge=1, le=200, description="most completions of an answer")] = 10
    inline_probability: Annotated[
        float, Field(ge=0, le=1, description="an inline completion is more probable; 1: none ever")
    ] = 0.5
    max_document_characters: Annotated[
        int, Field(ge=1, description="longer documents are not completed")
    ] = 1_000_000
    roles: Annotated[
        tuple[str, ...], Field(description="names of other roles are not proposed; none: of any")
    ] = ()
    types: Annotated[
        tuple[str, ...], Field(description="nor are those of other declared types; none: of any")
    ] = ()
    queue_capacity: Annotated[int, Field(ge=1, description="requests not yet answered")] = 64
    max_batch: Annotated[int, Field(ge=1, description="most requests of one forward pass")] = 8
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="the least that is logged")
    ] = "info"

    host: Annotated[str, Field(description="of the HTTP service")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="of HTTP; 0: any free one")] = 8_711
    token_file: Annotated[
        str, Field(description="holds the bearer token of HTTP, readable by its owner alone")
    ] = ""
    allowed_hosts: Annotated[
        tuple[str, ...], Field(description="names in the Host header, besides those of loopback")
    ] = ()
    max_body_bytes: Annotated[int, Field(ge=1_024, description="of an HTTP request")] = 2**20
    read_timeout_s: Annotated[
        float, Field(gt=0, description="for the headers, and again for the body, of a request")
    ] = 5.0
    client_requests_per_s: Annotated[
        float, Field(gt=0, description="of one address over HTTP, on average")
    ] = 100.0
    client_burst: Annotated[int, Field(ge=1, description="of one address over HTTP, at once")] = 200
    drain_timeout_s: Annotated[
        float, Field(gt=0, description="at the end, for what is still to be answered")
    ] = 8.0

    @field_validator("roles")
    @classmethod
    def _known(cls, roles: tuple[str, ...]) -> tuple[str, ...]:
        try:
            roles_named(roles)
        except UnknownNameError as error:
            reason = str(error).removesuffix(".")
            raise PydanticCustomError("role", "{reason}", {"reason": reason}) from error
        return roles

    @field_validator("roles", "types", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        if isinstance(given, str):
            raise PydanticCustomError("list", "it must be a list, such as {one}", {"one": [given]})
        return given

    @property
    def deadline_s(self) -> float:
        """:attr:`deadline_ms` in seconds."""
        return self.deadline_ms / 1000

    def with_client_settings(self, sent: Any) -> tuple[ServerSettings, list[str]]:
        """Return these settings with what an editor sent laid over them, and what is wrong there.

        What an editor may not set, or not so, is told and left out; the rest counts. An extension
        that is newer than the server thus keeps the settings that both know.

        Args:
            sent: ``initializationOptions``, or ``settings`` of ``didChangeConfiguration``: a table
                of :data:`CLIENT_SETTINGS`, or one that holds it as :data:`CLIENT_SECTION`. None
                changes nothing.
        """
        if isinstance(sent, Mapping) and CLIENT_SECTION in sent:
            sent = sent[CLIENT_SECTION]
        if sent is None:
            return self, []
        if not isinstance(sent, Mapping):
            return self, [
                f"Settings of the editor: a table of {', '.join(CLIENT_SETTINGS)} is due, "
                f"not a {type(sent).__name__}."
            ]
        settings, complaints = self, []
        foreign = sorted(str(name) for name in sent if name not in CLIENT_SETTINGS)
        if foreign:
            complaints.append(
                f"Settings of the editor: {', '.join(foreign)} cannot be set from there and is "
                f"left out; {', '.join(CLIENT_SETTINGS)} can."
            )
        for name in CLIENT_SETTINGS:
            if name not in sent:
                continue
            try:
                settings = validate_as(ServerSettings, {**settings.model_dump(), name: sent[name]})
            except ConfigError as error:
                complaints.append(str(error))
        return settings, complaints


def load_settings(
    *,
    file: Path | None,
    environment: Mapping[str, str],
    overrides: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> ServerSettings:
    """Put the settings of a process together; what comes later wins.

    Args:
        file: TOML with the names of :class:`ServerSettings`.
        environment: variables such as ``SEQMLM_CODE_DEADLINE_MS``; others are left alone. An empty
            one counts as not set, and so does the token, which the HTTP service reads itself.
        overrides: ``name=value``, of ``--set``.
        options: of the command line, by name; None stands for one that was not given.

    Raises:
        ConfigError: a place cannot be read, or a setting is unknown or not allowed.
    """
    given = {} if file is None else read_config_file(file)
    from_environment: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX) and name != TOKEN_VARIABLE and value:
            apply_override(
                from_environment, f"{name.removeprefix(ENVIRONMENT_PREFIX).lower()}={value}"
            )
    given = merge(given, from_environment)
    for override in overrides:
        apply_override(given, override)
    return validate_as(
        ServerSettings,
        merge(given, {name: value for name, value in (options or {}).items() if value is not None}),
    )
