"""seqmlm code serve"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NAME = "serve"
EXAMPLES = """Examples:

seqmlm code serve runs/code --lsp

seqmlm code serve runs/code --lsp --tcp 127.0.0.1:8712

seqmlm code serve runs/code --http --set port=8711 --set deadline_ms=200

Settings, for --config and --set:

device: auto, cpu, cuda or cuda:N

backend: of the kernels

deadline_ms: until a lexical answer takes the place of the model's

limit: most completions of an answer

inline_probability: an inline completion is more probable; 1: none ever

max_document_characters: longer documents are not completed

roles: names of other roles are not proposed; none: of any

types: nor are those of other declared types; none: of any

queue_capacity: requests not yet answered

max_batch: most requests of one forward pass

log_level: the least that is logged

host: of the HTTP service

port: of HTTP; 0: any free one

token_file: holds the bearer token of HTTP, readable by its owner alone

allowed_hosts: names in the Host header, besides those of loopback

max_body_bytes: of an HTTP request

read_timeout_s: for the headers, and again for the body, of a request

client_requests_per_s: of one address over HTTP, on average

client_burst: of one address over HTTP, at once

drain_timeout_s: at the end, for what is still to be answered"""


def run(
    run: Annotated[
        Path, typer.Argument(help="A run of domain code, or its model.", show_default=False)
    ],
    lsp: Annotated[
        bool, typer.Option("--lsp", help="A language server, on standard input and output.")
    ] = False,
    tcp: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of this machine for --lsp, in place of standard streams."),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="An HTTP service, with a page to try it.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value of a setting; repeatable.", show_default=False),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Of the kernels: auto, reference, torch or triton.")
    ] = None,
) -> None:
    """Complete identifiers for editors, offline: nothing leaves this machine.

    Settings come from --config, then variables such as SEQMLM_CODE_DEADLINE_MS, then --set and the
    options; an editor may change deadline_ms, limit, inline_probability,
    max_document_characters, roles and types for itself.
    """
    import logging
    import os

    from seqmlm.errors import ConfigError
    from seqmlm_domains.code.serving.settings import load_settings

    if lsp == http:
        raise ConfigError("Say either --lsp, for an editor, or --http.")
    if tcp is not None and not lsp:
        raise ConfigError(
            "--tcp is an address of --lsp; that of --http is --set host=HOST --set port=PORT."
        )
    settings = load_settings(
        file=config,
        environment=os.environ,
        overrides=overrides or (),
        options={"device": device, "backend": backend},
    )
    logging.getLogger("seqmlm_domains.code.serving").setLevel(settings.log_level.upper())
    if settings.log_level == "debug":
        for handler in logging.getLogger().handlers:
            handler.setLevel(logging.DEBUG)
    if http:
        from seqmlm_domains.code.serving.http import run_service

        run_service(run, settings)
        return
    from seqmlm_domains.code.serving import language_service

    if tcp is None:
        raise typer.Exit(language_service.serve_standard_streams(run, settings))
    host, port = language_service.parse_address(tcp)
    raise typer.Exit(language_service.serve_tcp(run, settings, host=host, port=port))
