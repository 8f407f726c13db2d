"""The ASGI application: every call of the table as a Starlette route, the page, the OpenAPI document, errors as problems."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from notnow.control import api, copies, events, page, scenarios, timelines, verdicts, waiting
from notnow.control.calls import CALLS, MEDIA_TYPES, Answer, Call, Content, Stream
from notnow.control.fleet import Fleet
from notnow.control.guard import Guard
from notnow.control.openapi import document
from notnow.control.problems import RefusedError, of_error, respond
from notnow.control.underway import CallerLeftError, Underway
from notnow.errors import shown, unknown
from notnow.look.rendering import asset
from notnow.terminal import safe_lines

if TYPE_CHECKING:
    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

MODULES = (api, copies, events, scenarios, timelines, verdicts, waiting)  # importing them fills the table
READING = 10.0  # real seconds for the body of a request


def application(fleet: Fleet, token: str | None, closing: asyncio.Event) -> Guard:
    """The control API of these servers, until `closing` is set; with a token, only for callers who know it."""
    underway = Underway(closing)
    routes = [
        Route(path, partial(_called, calls, fleet, underway), methods=list(calls))
        for path, calls in sorted(_by_path().items(), key=lambda item: "{" in item[0])  # fixed paths first
    ]
    routes.append(Route("/v1/openapi.json", _openapi))
    routes.append(Route("/", partial(_page, fleet, underway)))
    routes.append(Route("/assets/{name}", _asset))
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _not_found, Exception: _failed},
    )
    app.router.redirect_slashes = False  # a client that does not follow would take the redirect for an answer
    return Guard(app, token)


def _by_path() -> dict[str, dict[str, Call]]:
    """The calls of each path by their methods."""
    found: dict[str, dict[str, Call]] = {}
    for call in CALLS:
        found.setdefault(call.path, {})[call.method] = call
    return found


async def _openapi(_request: Request) -> Response:
    return JSONResponse(document())


async def _page(fleet: Fleet, underway: Underway, request: Request) -> Response:
    try:
        text = await underway.answer(
            _in_thread(page.page, fleet, request.query_params.get("group"), request.headers.get("host", ""))
        )
    except RefusedError as error:
        return respond(error)
    return Response(text, media_type="text/html; charset=utf-8")


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in page.ASSETS:
        raise HTTPException(404)
    return Response(asset(name), media_type=page.ASSETS[name])


async def _called(calls: Mapping[str, Call], fleet: Fleet, underway: Underway, request: Request) -> Response:
    call = calls["GET" if request.method == "HEAD" else request.method]
    try:
        answer = await _answer(call, await _arguments(call, fleet, request), underway, request)
        if isinstance(answer, Stream) and request.method == "HEAD":
            return Response(media_type=MEDIA_TYPES["events"])
        return _EventStream(answer, underway) if isinstance(answer, Stream) else _response(call, answer)
    except (ClientDisconnect, CallerLeftError):
        return Response(status_code=400)  # nobody reads it
    except Exception as error:
        refusal = of_error(error)
        if refusal is None:
            raise
        return respond(refusal)


async def _answer(call: Call, given: Mapping[str, Any], underway: Underway, request: Request) -> Answer:
    await _in_thread(given["fleet"].catch_up)
    if inspect.iscoroutinefunction(call.handler):
        return await underway.answer(call.handler(**given), _gone(request.receive))

    async def work() -> Answer:
        answer = await _in_thread(call.handler, **given)
        assert not isinstance(answer, Coroutine), "a plain function has no coroutine for an answer"
        return answer

    return await underway.answer(_in_turn(work, given, underway) if call.long else work())


async def _in_thread(work: Callable[..., T], *args: Any, **given: Any) -> T:
    return await to_thread.run_sync(partial(work, *args, **given), abandon_on_cancel=True)


async def _in_turn(work: Callable[[], Coroutine[Any, Any, T]], given: Mapping[str, Any], underway: Underway) -> T:
    names = [given["name"]] if "name" in given else getattr(given.get("query"), "server", ())
    groups = given["fleet"].groups(names).values()
    async with underway.turn(sum(len(member.fake.journal) for members in groups for member in members)):
        return await work()


async def _arguments(call: Call, fleet: Fleet, request: Request) -> dict[str, Any]:
    """The keywords of the handler. Raises RefusedError, or pydantic's ValidationError."""
    given: dict[str, Any] = {"fleet": fleet, **request.path_params}
    if "index" in given:
        given["index"] = _number(given["index"])
    if call.query is not None:
        given["query"] = call.query.model_validate(_query(request, call.query))
    elif "asked" in call.takes:
        given["asked"] = _once(request)
    elif request.query_params:
        name = next(iter(request.query_params))
        raise RefusedError(422, f"there is no parameter {name!r} here; allowed: none")
    if "headers" in call.takes:
        given["headers"] = request.headers
    if call.method != "GET":
        body = await _body(request)
        _check_content_type(request, body)
        if call.body is not None:
            given["body"] = call.body.model_validate(_json(body))
    return given


def _check_content_type(request: Request, body: bytes) -> None:
    """What changes something has to be JSON: a page of another site cannot send that without leave (CSRF)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and (kind or body):
        raise RefusedError(415, f"Content-Type is {kind!r}; allowed: application/json")


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(READING):
            return await request.body()
    except TimeoutError:
        raise RefusedError(408, f"the body did not come within {READING:g} s") from None


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise RefusedError(404, f"there is no exchange {text!r}; allowed: the `index` of an entry of the journal")
    return int(text)


def _query(request: Request, model: type[BaseModel]) -> dict[str, Any]:
    """The parameters; one that is given more than once is a list."""
    found: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        found[name] = values[0] if len(values) == 1 else values
    for name in found.keys() - model.model_fields.keys():
        raise RefusedError(422, str(unknown("parameter", name, sorted(model.model_fields))))
    return found


def _once(request: Request) -> dict[str, str]:
    """The parameters, each of which may be given once."""
    for name in request.query_params:
        if len(request.query_params.getlist(name)) > 1:
            raise RefusedError(422, f"{name!r} is given twice; allowed: once")
    return dict(request.query_params)


def _json(body: bytes) -> Any:
    if not body:
        return {}
    try:
        found = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_object)
        if _SURROGATE.search(body):
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError:
        raise RefusedError(400, "the body is no JSON: half of a surrogate pair is no character") from None
    except RecursionError:
        raise RefusedError(400, "the body is nested too deeply") from None
    except ValueError as error:  # no UTF-8, or no JSON
        raise RefusedError(400, f"the body is no JSON: {error}") from None


# The escape of a surrogate, which needs the other half of its pair (RFC 8259 §8.2).
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")  # RFC 8259 §6


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose names are unique (RFC 8259 §4)."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {shown(twice)} is given twice")
    return found


def _response(call: Call, answer: BaseModel | Content | None) -> Response:
    match answer:
        case None:
            return Response(status_code=call.status)
        case Content(media_type, content, headers, status):
            data = content if isinstance(content, bytes) else content.encode("utf-8", "replace")
            return Response(data, status or call.status, dict(headers), media_type)
    text = json.dumps(answer.model_dump())  # in ASCII: clients may have said what is no text
    return Response(text, call.status, media_type=MEDIA_TYPES["json"])


class _EventStream(Response):
    """Sends pieces as they come, until the reader leaves or notnow stops."""

    media_type = MEDIA_TYPES["events"]

    def __init__(self, stream: Stream, underway: Underway) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._pieces, self._underway = stream.pieces, underway

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        works = (self._write(send), _gone(receive), self._underway.closed())
        _, leaving, closed = tasks = [asyncio.ensure_future(work) for work in works]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if leaving.cancelled() and not closed.cancelled():  # the reader is there, and notnow stops
            await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._pieces) as pieces:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = safe_lines(request.scope["path"])  # `request.url` decodes the query, too, which may be no text
    if error.status_code == 404:
        detail = f"there is no {path!r} here; allowed: the paths in /v1/openapi.json"
        if path.endswith("/"):
            detail += f"; did you mean {path.rstrip('/')!r}?"
    elif error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        detail = f"{request.method} is not possible at {path}; allowed: {allowed}"
    else:
        detail = error.detail
    return respond(RefusedError(error.status_code, detail, **_plain(error.headers)))


def _plain(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in (headers or {}).items()}


async def _failed(_request: Request, error: Exception) -> Response:
    """Our own code has failed. The caller gets no traceback; hypercorn prints it."""
    return respond(RefusedError(500, f"notnow itself failed: {type(error).__name__}; its terminal shows where"))
