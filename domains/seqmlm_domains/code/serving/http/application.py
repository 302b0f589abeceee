"""The routes of the HTTP service."""

from __future__ import annotations

import os
import platform
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse

from seqmlm import __version__
from seqmlm.errors import ConfigError, DataError, UnknownNameError
from seqmlm_domains.code.completion.completion import CompletionRequest, CompletionResult
from seqmlm_domains.code.languages import LANGUAGES
from seqmlm_domains.code.serving.completion_queue import QueueRefusal
from seqmlm_domains.code.serving.http.guard import COMPLETIONS_PATH
from seqmlm_domains.code.serving.http.messages import (
    CompletionAnswer,
    CompletionBody,
    Health,
    LanguageNotSaid,
    ModelHealth,
    ProblemAnswer,
    StreamEnd,
    Version,
    new_identifier,
)
from seqmlm_domains.code.serving.http.page_files import PAGE_FILES, page_response
from seqmlm_domains.code.serving.http.refusal import Refusal, internal_error, refusal_of_queue
from seqmlm_domains.code.serving.http.service import CompletionService, NotReloaded

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemAnswer}
    for status in (400, 401, 403, 408, 413, 415, 421, 422, 429, 503)
}
_PROBLEMS[429]["headers"] = {
    "Retry-After": {"description": "seconds until to ask again", "schema": {"type": "integer"}}
}


# async, though it waits for nothing: FastAPI calls any other on a thread of its own.
async def _service(request: Request) -> CompletionService:
    service: CompletionService = request.app.state.service
    return service


Service = Annotated[CompletionService, Depends(_service)]


def create_application(service: CompletionService) -> FastAPI:
    """Return the routes over a service, without the guard.

    FastAPI's own pages of documentation are off: they load their scripts from another machine.
    """
    application = FastAPI(
        title="seqmlm completion",
        version="1",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEMS,
    )
    application.state.service = service
    application.post(COMPLETIONS_PATH, response_model=CompletionAnswer)(complete)
    application.post("/v1/admin/reload", response_model=Health)(reload)
    application.get("/v1/health", response_model=ModelHealth)(tell_model)
    application.get("/healthz", response_model=Health)(tell_health)
    application.get("/readyz", response_model=Health)(tell_readiness)
    application.get("/metrics")(tell_metrics)
    for path in PAGE_FILES:
        application.get(path, include_in_schema=False)(send_page)
    application.get("/openapi.json", include_in_schema=False)(describe)
    for route in [route for route in application.routes if isinstance(route, APIRoute)]:
        # HTTP asks for HEAD beside each GET; FastAPI leaves it out.
        if "GET" in (route.methods or ()):
            application.head(route.path, include_in_schema=False)(route.endpoint)
    application.add_exception_handler(RequestValidationError, _answer_invalid)
    application.add_exception_handler(HTTPException, _answer_http_problem)
    for kind in (UnknownNameError, LanguageNotSaid, ConfigError, DataError):
        application.add_exception_handler(kind, _answer_unusable)
    application.add_exception_handler(QueueRefusal, _answer_refused)
    application.add_exception_handler(NotReloaded, _answer_not_reloaded)
    application.add_exception_handler(Exception, _answer_internal)
    return application


async def complete(body: CompletionBody, service: Service) -> Any:
    """Complete the name at the cursor, which stands between the segments."""
    project = service.queue.completer.project
    request = body.request(limit=service.settings.limit, fitted=project.tables)
    most = service.settings.max_document_characters
    if len(request.source) > most:
        raise HTTPException(413, f"The text is longer than {most:,} characters.")
    made = partial(
        CompletionAnswer.of,
        source=request.source,
        identifier=new_identifier(),
        notice=project.missing(request.language),
    )
    if body.stream:
        return await _stream(request, service, made)
    result = await service.queue.complete(request, deadline_s=service.settings.deadline_s)
    return _json(made(result))


async def reload(service: Service) -> Health:
    """Read the model again from where it was read at the start; answers go on meanwhile."""
    await service.reload()
    return Health(status="reloaded")


async def tell_health() -> Health:
    """Tell that the process answers."""
    return Health(status="alive")


async def tell_model(service: Service) -> ModelHealth:
    """Tell what answers, as Tabby does; its clients ask before they complete."""
    project = service.queue.completer.project
    return ModelHealth(
        model="seqmlm",
        device=service.device,
        arch=platform.machine(),
        cpu_count=os.cpu_count() or 1,
        version=Version(git_describe=f"v{__version__}"),
        languages=[name for name in LANGUAGES if project.missing(name) is None],
    )


async def tell_readiness(service: Service) -> Response:
    """Tell whether completions would be answered by the model now; 503 if not."""
    obstacle = service.obstacle()
    status = 200 if obstacle is None else 503
    return JSONResponse({"status": obstacle or "ready"}, status)


async def tell_metrics(service: Service) -> Response:
    """Tell counts and times to Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def describe(request: Request) -> Response:
    """Describe the interface, as OpenAPI has it."""
    return JSONResponse(request.app.openapi())


async def send_page(request: Request) -> Response:
    """Send a file of the page, which stands beside this module."""
    return page_response(request.url.path)


async def _stream(
    request: CompletionRequest,
    service: CompletionService,
    made: Callable[[CompletionResult], CompletionAnswer],
) -> Response:
    answers = service.queue.stream(request, deadline_s=service.settings.deadline_s)
    # Before the status line is sent: a full queue is a 429.
    first = await anext(answers)
    return StreamingResponse(
        _events(made(first), answers, made),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(
    first: CompletionAnswer,
    answers: AsyncGenerator[CompletionResult],
    made: Callable[[CompletionResult], CompletionAnswer],
) -> AsyncIterator[str]:
    try:
        yield _event("lexical", first)
        end = StreamEnd(id=first.id, used_model=False)
        async for result in answers:
            answer = made(result)
            end = StreamEnd(id=answer.id, used_model=answer.used_model)
            yield _event("model", answer)
        yield _event("done", end)
    except (ConfigError, DataError, QueueRefusal) as error:
        data = bytes(_refusal_of(error).response().body).decode()
        yield f"event: error\ndata: {data}\n\n"
    finally:
        # A client that leaves gives its place back here.
        await answers.aclose()


def _event(name: str, content: CompletionAnswer | StreamEnd) -> str:
    return f"event: {name}\ndata: {content.model_dump_json()}\n\n"


def _json(answer: CompletionAnswer) -> Response:
    return Response(
        answer.model_dump_json(),
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


def _refusal_of(error: Exception) -> Refusal:
    if isinstance(error, QueueRefusal):
        return refusal_of_queue(error)
    if isinstance(error, UnknownNameError):
        return Refusal(status=422, code="unknown_name", message=str(error))
    if isinstance(error, LanguageNotSaid):
        return Refusal(status=422, code="no_language", message=str(error))
    message = "This text cannot be completed."
    return Refusal(status=422, code="unusable", message=message)


async def _answer_refused(_: Request, error: Exception) -> Response:
    return _refusal_of(error).response()


async def _answer_unusable(_: Request, error: Exception) -> Response:
    return _refusal_of(error).response()


async def _answer_not_reloaded(_: Request, error: Exception) -> Response:
    return Refusal(status=409, code="not_reloaded", message=str(error)).response()


async def _answer_internal(_: Request, __: Exception) -> Response:
    # Starlette raises the error again after this: the guard logs it.
    return internal_error().response()


async def _answer_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # Pydantic's errors quote the input, which is source.
    wrong = "; ".join(
        f"{'.'.join(map(str, problem['loc'][:4]))}: {problem['msg']}"
        for problem in error.errors()[:5]
    )
    return Refusal(status=422, code="invalid", message=wrong).response()


async def _answer_http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Refusal(
        status=error.status_code,
        code="http",
        message=str(error.detail),
        headers=error.headers or {},
    ).response()
