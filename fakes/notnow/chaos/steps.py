"""What a client did at a fake, event by event: the rows of a sweep."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import Struct

from notnow import protocols
from notnow.http_words import SAFE
from notnow.journal import Connection, Exchange, Transfer
from notnow.language.grammar import Rule
from notnow.language.scenario import Scenario
from notnow.terminal import safe

SAID = 48  # most characters of what the client said
_VERB = re.compile(r"(?i)^(?:MAIL FROM:|RCPT TO:|[A-Z]+)")


class Step(Struct, frozen=True):
    """The `nth` event at a moment, counted from 1 over the whole server.

    `verb` is that of a command without a moment of its own, such as VRFY: its moment is "any", and it is counted by its verb.
    `said` is what the client said. `size` is the number of bytes that can be cut: of the message, the transfer or the body
    of the answer. `changes`: the server stored something, or carried something out. `framed`: over HTTP/2. `inner` counts
    the events within it as rules do: bodies of messages, whole transfers, answers of the app. `connected` is how many clients
    connected since the event before it at this moment. `index` is its place in the order of everything that happened in
    its run.
    """

    moment: str
    nth: int
    said: str
    size: int = 0
    changes: bool = False
    framed: bool = False
    inner: int = 0
    connected: int = 0
    index: int = 0
    verb: str = ""

    @property
    def id(self) -> str:
        """`rcpt#2`."""
        return f"{self.verb.lower() or self.moment}#{self.nth}"


def steps(scenario: Scenario, exchanges: Iterable[Exchange]) -> list[Step]:
    """The events of a run under a scenario, in their order; those at which no rule of a sweep acts are left out."""
    protocol, rules, found = protocols.get(scenario.protocol), scenario.by_path(), list[Step]()
    moments, counts, verbs, connected, inner = protocol.moments, Counter[str](), Counter[str](), Counter[str](), 0
    for moment, x in _events(exchanges):
        inner += _has_inner(x, rules.get(x.rule or ""))
        verb = _verb(x) if protocol.is_command(moment) else ""
        verbs[verb] += 1
        if moment in moments and not moments[moment].body:
            counts[moment] += 1
            since = counts["connect"] - connected[moment]
            connected[moment] = counts["connect"]
            found.append(_step(x, moment, counts[moment], inner, since))
        elif verb and moment not in moments:
            found.append(Step("any", verbs[verb], _said(moment, x), verb=verb, index=x.index))
    return found


def _events(exchanges: Iterable[Exchange]) -> Iterator[tuple[str, Exchange]]:
    """The moment and exchange of each event.

    A TLS handshake has an exchange only if a rule refused it, so it always goes with the exchange that it follows.
    """
    before_tls: dict[Connection, Exchange] = {}
    for x in exchanges:
        refused = x.http is not None and x.rule is not None and x.rule == x.connection.exchanges[0].rule  # at `connect`
        if not refused and x.moment != "tls":
            yield x.moment, x
        if x.connection.tls is not None:
            if x.connection not in before_tls:
                before_tls[x.connection] = _before_tls(x.connection)
            if x is before_tls[x.connection]:
                yield "tls", x


def _before_tls(connection: Connection) -> Exchange:
    """The exchange of a connection that its TLS handshake follows."""
    for x in connection.exchanges:
        if x.request.upper().startswith(("STARTTLS", "AUTH TLS", "AUTH SSL")):
            return x
    return connection.exchanges[0]


def _verb(x: Exchange) -> str:
    found = re.match(r"[A-Za-z]+(?= |$)", x.request)
    return found[0].upper() if found is not None else ""


def _has_inner(x: Exchange, rule: Rule | None) -> bool:
    if isinstance(x.facts, Transfer):
        undone = x.facts.stored is False and x.facts.data is None  # after all of it had passed
        return x.facts.whole or undone
    if x.http is not None:  # the app answers what no rule refuses, and what a rule answers otherwise and keeps
        return rule is None or (rule.keep is True and rule.close is None)
    return x.moment in ("message", "body")


def _step(x: Exchange, moment: str, nth: int, inner: int, connected: int) -> Step:
    size, changes, framed = 0, False, False
    if moment == "tls":
        pass
    elif (request := x.http) is not None:
        size, changes, framed = request.sent, request.method not in SAFE, request.version == "2"
    elif isinstance(x.facts, Transfer):
        size, changes = x.facts.bytes, x.facts.direction == "upload"
    elif x.message is not None:
        size, changes = x.message.size or 0, True
    return Step(moment, nth, _said(moment, x), size, changes, framed, inner, connected, x.index)


def _said(moment: str, x: Exchange) -> str:
    match moment:
        case "tls":
            sni = x.connection.tls and x.connection.tls.sni
            return f"TLS handshake for {safe(sni)}" if sni else "TLS handshake"
        case "connect":
            return f"connection {x.connection.number}"
        case "message":
            return f"message {safe(x.message.name) if x.message else ''} {safe(x.request)}"[:SAID]
        case "request" if x.http is not None:
            return f"{x.http.method} {safe(x.http.path)}"[:SAID]
    said = _VERB.sub(lambda verb: verb[0].upper(), safe(x.request))
    return said if len(said) <= SAID else said[: SAID - 1] + "…"
