"""Errors as problem details (RFC 9457), in the sentences of the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError
from starlette.responses import Response

from notnow.control.fleet import FullError, NameTakenError, NoSuchServerError
from notnow.control.models import ProblemDetails, keys_of
from notnow.errors import LostError, NotNowError, NotRunningError, Problem, ScenarioError, StartError, nearest, shown

MEDIA_TYPE = "application/problem+json"


class RefusedError(NotNowError):
    """A call that is refused with this status, in a sentence."""

    def __init__(self, status: int, detail: str, problems: Iterable[Problem] = (), /, **headers: str) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, {k.replace("_", "-"): v for k, v in headers.items()}
        self.problems = tuple(problems)

    def details(self) -> ProblemDetails:
        title = HTTPStatus(self.status).phrase
        return ProblemDetails(
            title=title, status=self.status, detail=self.detail, problems=[as_dict(p) for p in self.problems]
        )


def of_error(error: Exception) -> RefusedError | None:
    """The refusal that tells this error; None for one that is not the caller's."""
    match error:
        case RefusedError():
            return error
        case ScenarioError():
            return RefusedError(422, str(error), error.problems)
        case ValidationError():
            problems = [_of_mistake(mistake, error) for mistake in error.errors(include_url=False)]
            return RefusedError(422, "\n".join(map(str, problems)), problems)
        case LostError():
            return RefusedError(503, str(error))
        case NotRunningError():
            return RefusedError(404, "the server was stopped while this call was under way")
        case TimeoutError():
            return RefusedError(
                503, f"clients keep the servers busy without a pause: {error}; try again when they pause"
            )
        case NoSuchServerError() | NameTakenError() | FullError():
            return RefusedError(_STATUSES[type(error)], str(error))
        case StartError():
            return RefusedError(409, error.strerror or str(error))
        case NotNowError() if isinstance(error, ValueError):
            return RefusedError(422, str(error))
    return None


_STATUSES: Mapping[type[Exception], int] = {NoSuchServerError: 404, NameTakenError: 409, FullError: 503}


def as_dict(problem: Problem) -> dict[str, Any]:
    """A mistake as plain data; `text` is the whole sentence."""
    found: dict[str, Any] = {"text": str(problem)}
    for name in ("found", "allowed", "key", "line", "nearest", "hint", "warning"):
        if value := getattr(problem, name):
            found[name] = value
    return found


def _of_mistake(mistake: Mapping[str, Any], error: ValidationError) -> Problem:
    """pydantic's mistake in our words."""
    key = ".".join(map(str, mistake["loc"]))
    kind, context = mistake["type"], mistake.get("ctx", {})
    if kind == "extra_forbidden":
        known = keys_of(error.title)
        return Problem(f"there is no {key!r} here", allowed=", ".join(known) or "nothing", nearest=nearest(key, known))
    if kind == "missing":
        return Problem("is missing", key=key)
    if kind == "value_error":
        cause = context.get("error")
        words, _, allowed = str(cause).partition("; allowed: ")
        return Problem(words, allowed=allowed, key=key)
    if kind in ("literal_error", "enum"):
        return Problem(f"found {_shown(mistake['input'])}", allowed=str(context.get("expected", "")), key=key)
    said = mistake["msg"]
    whole = {name: int(n) if isinstance(n, float) and n.is_integer() else n for name, n in context.items()}
    allowed = _ALLOWED[kind].format(**whole) if kind in _ALLOWED else said[0].lower() + said[1:]
    return Problem(f"found {_shown(mistake['input'])}", allowed=allowed, key=key)


_ALLOWED = {  # by pydantic's name of the mistake
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than_equal": "{ge} or more",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number of fewer digits",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} at most",
    "list_type": "a list",
    "model_type": "an object",
    "string_too_long": "{max_length} characters at most",
    "string_type": "a text",
}


def _shown(value: object) -> str:
    return "null" if value is None else shown(value)


def respond(error: RefusedError) -> Response:
    """The answer that tells a refusal, in ASCII: it may quote what is no text."""
    return Response(json.dumps(error.details().model_dump()), error.status, error.headers, MEDIA_TYPE)
