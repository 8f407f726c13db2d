"""One visit of a simulated client: what it does on a connection, and what the engine's scripts tell it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from notnow import protocols
from notnow.engine.actions import (
    BEHAVE,
    Action,
    Close,
    Hang,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Script,
    Send,
    Wait,
)
from notnow.engine.engine import Engine
from notnow.engine.events import Asked, Event, Facts, Hello, Opened
from notnow.language.scenario import Scenario
from notnow.protocols.moment import Moment

METHOD, SIZE = "GET", 1000
HOST = "fake.notnow.test"
LATER = frozenset(
    {408, 421, 425, 429}
)  # statuses below 500 after which a client asks again (RFC 9110, RFC 6585, RFC 8470)


Asks = Callable[[str, int], Event]  # of a connection and the number of its client


class Answer(NamedTuple):
    """What a script means to a client, after so many seconds. `retry_after`: in how many seconds it may come back."""

    kind: Literal["go", "refused", "final", "silent"]
    after: float = 0.0
    retry_after: float | None = None


GO = Answer("go")


def course(scenario: Scenario, engine: Engine) -> list[Asks]:
    """What a client does, from the connection on: the moments at which the scenario or its server can do something."""
    protocol = protocols.get(scenario.protocol)
    steps: list[Asks] = [lambda conn, client: Opened(conn, address(client))]
    if scenario.server.tls != "none" and engine.has_rules_at("tls"):
        steps.append(lambda conn, client: Hello(conn, HOST))  # noqa: ARG005
    return steps + [_asks(name, protocol.moments[name]) for name in protocol.visit if engine.has_rules_at(name)]


def busy_rules(scenario: Scenario) -> frozenset[str]:
    """The key paths of the rules that answer for a full queue."""
    pairs = ((i, j, rule) for i, phase in enumerate(scenario.phases) for j, rule in enumerate(phase.rules))
    return frozenset(f"phase[{i}].rule[{j}]" for i, j, rule in pairs if rule.busy)


def _asks(moment: str, known: Moment) -> Asks:
    command = next(iter(known.verbs), METHOD)
    return lambda conn, client: Asked(conn, moment, _facts(client, command))


def _facts(client: int, command: str) -> Facts:
    """What a client says of itself and its item, in any protocol: an engine looks for the facts that its rules name."""
    return {
        "command": command, "method": METHOD, "path": "/", "authority": HOST, "size": SIZE,
        "user": f"client{client}", "sender": f"client{client}@clients.test", "recipient": ("postmaster@server.test",),
    }  # fmt: skip


def address(client: int) -> str:
    """The address of a client: another one for each."""
    return f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}"


def answer(script: Script | None, now: float) -> Answer:
    """What a script means to the client that asked."""
    if script is None or script.steps is BEHAVE:
        return GO
    after = math.fsum(step.seconds for step in script.steps if isinstance(step, Wait))
    if any(isinstance(step, Hang) for step in script.steps):
        return Answer("silent", after)
    kind, told = "go" if script.proceeds else "refused", None
    for step in script.steps:
        status = _status(step)
        if status is not None:
            kind = "go" if status < 400 else "refused" if status >= 500 or status in LATER else "final"
            told = _retry_after(step, now)
        elif (code := _code(step)) is not None:
            kind = "go" if code in "123" else "refused" if code == "4" else "final"
    if kind == "go" and (not script.proceeds or _mute(script.steps)):
        kind = "refused"
    return Answer(kind, after, told)  # type: ignore[arg-type]


def _mute(steps: Iterable[Action]) -> bool:
    """True if the connection or stream ends without a reply, whatever has taken effect."""
    ends = any(isinstance(step, (Close, ResetStream)) for step in steps)
    return ends and any(isinstance(step, Proceed) and step.instead == () for step in steps)


def _code(step: Action) -> str | None:
    """The first digit of the last reply of a step."""
    lines = step.lines if isinstance(step, Send) else step.instead if isinstance(step, Proceed) else None
    return lines[-1][:1] if isinstance(lines, tuple) and lines else None


def _response(step: Action) -> Response | None:
    if isinstance(step, Respond):
        return step.response
    return step.instead if isinstance(step, Proceed) and isinstance(step.instead, Response) else None


def _status(step: Action) -> int | None:
    response = _response(step)
    return None if response is None else response.status


def _retry_after(step: Action, now: float) -> float | None:
    """Seconds from a Retry-After (RFC 9110 §10.2.3); scenario time 0 is 1970 here."""
    headers = {name.lower(): value for name, value in (_response(step) or Response()).headers}
    value = headers.get("retry-after", "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None
