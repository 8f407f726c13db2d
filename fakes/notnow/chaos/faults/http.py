"""The faults of a sweep over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notnow.chaos.faults.fault import HALF, HANDSHAKE, SILENT, Answers, Fault, at, cut, only_if
from notnow.chaos.steps import Step


def changes(step: Step) -> bool:
    return step.changes


def framed(step: Step) -> bool:
    return step.framed


def _kept(same_as: str) -> Mapping[str, Any]:
    return only_if(changes, same_as, "a safe request changes nothing (RFC 9110 §9.2.1)")


_FRAME = only_if(framed, "close", "HTTP/1.1 has no frames")

_REQUESTS = at("request")

FAULTS = (
    Fault("421", "is answered 421", "status = 421\nclose = false", _REQUESTS),
    Fault("421", "has 421 for every request, and closes", "status = 421", at("connect")),
    Fault(
        "421-stays", "and all that follow are answered 421 until a new connection", "status = 421\nclose = false", _REQUESTS,
        stays=True,
    ),
    Fault("429", "is answered 429 with Retry-After: 1", 'status = 429\nheaders = { retry-after = "1" }', _REQUESTS),
    Fault("503", "is answered 503 with Retry-After: 1", 'status = 503\nheaders = { retry-after = "1" }', _REQUESTS),
    *SILENT,
    Fault(
        "cut", "gets half of its answer, and a close", f'{HALF}\nclose = "abrupt"', _REQUESTS, on="response", **cut("close")
    ),
    Fault("kept-503", "is carried out, and yet answered 503", "status = 503\nkeep = true", _REQUESTS, kept=True, **_kept("503")),
    Fault(
        "kept-close", "is carried out, and the connection closes without an answer", "close = true\nkeep = true", _REQUESTS,
        kept=True, **_kept("close"),
    ),
    Fault(
        "refused", "is refused by RST_STREAM REFUSED_STREAM", 'reset_stream = "REFUSED_STREAM"', _REQUESTS, **_FRAME
    ),
    Fault("goaway", "is left out by a GOAWAY", 'goaway = { last = "previous" }', _REQUESTS, **_FRAME),
    *HANDSHAKE,
)  # fmt: skip

ANSWERS = Answers(now=(421, 503, 429, 502, 504, 500, 408, 425), final=(403, 404, 410, 501))
