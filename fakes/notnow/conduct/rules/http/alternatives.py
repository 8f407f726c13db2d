"""Rules about ORIGIN frames and alternative services."""

from __future__ import annotations

import re

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held, not_exercised
from notnow.conduct.reading.http import has_status, host_of_connection, request
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import AltSvcFrame, Exchange, Journal, OriginFrame
from notnow.units import plural

_HOST = re.compile(r"^\w+://(\[[^\]]*\]|[^:/]*)")


@rule(
    "http.forget-origin",
    title="If a host that ORIGIN named answers 421, the client does not ask for it on that connection again.",
    level="must",
    source="RFC 8336 §2.3",
    why="The origin set was wrong about the host, and the client knows that now.",
    proof="a request for a host that ORIGIN has named and a 421 has taken back, on a connection that was made for another host",
    example="S: ORIGIN https://b.site.test\nC: GET b.site.test/1\nS: 421 Misdirected Request\nC: GET b.site.test/2   (the same connection)",
)
def forgets_the_origin(run: Run) -> Finding:
    forgotten = 0
    for connection, exchanges in run.by_connection.items():
        first = next((x for x in exchanges if x.http is not None), None)
        if first is None:
            continue
        made_for = host_of_connection(connection, first)
        origins: set[str] = set()
        refused: dict[str, Exchange] = {}
        for x in exchanges:
            host = x.http.host if x.http is not None else ""
            if host in refused:
                return broken(f"{host} was asked for again where it had got 421", refused[host], x)
            named = [origin for frame in x.sent(OriginFrame) for origin in frame.origins]
            origins.update(match[1].lower() for match in map(_HOST.match, named) if match)
            if has_status(x, 421) and host in origins and host != made_for:
                refused[host] = x
        forgotten += len(refused)
    return held(f"{plural(forgotten, 'origin')} forgotten") if forgotten else NOT_EXERCISED


@rule(
    "http.drop-alternative",
    title="If an alternative service answers 421, the client does not use it for that origin again.",
    level="must",
    source="RFC 7838 §6",
    why="The alternative does not serve the origin. Every further request costs a round trip and fails.",
    proof="after a 421, the same authority at the same alternative: one named by Alt-Used, or another fake than the one that advertised it",
    example='origin: Alt-Svc: h2=":8443"\nC: GET a.site.test/   (at the alternative)\nS: 421 Misdirected Request\nC: GET a.site.test/   (at the alternative)',
)
def drops_the_alternative(run: Run) -> Finding:
    told: dict[tuple[str, str], Journal] = {}  # client and authority -> the server that advertised an alternative
    dropped: dict[tuple[str, str, Journal, object], Exchange] = {}
    for x in run.requests:
        key, server = (x.connection.client, request(x).authority), x.connection.journal
        place = *key, server, request(x).alt_used
        refusal = dropped.get(place)
        if refusal is not None:
            return broken(f"{key[1]} was asked for again at the alternative that had answered 421", refusal, x)
        by = told.get(key)
        if has_status(x, 421):
            if place[3] or (by is not None and by is not server):
                dropped[place] = x
        elif by is None and (request(x).alt_svc or x.sent(AltSvcFrame)):
            told[key] = server
    return held(f"{plural(len(dropped), 'alternative')} dropped") if dropped else NOT_EXERCISED


@rule(
    "http.ignore-alt-svc-in-421",
    title="The client ignores the Alt-Svc field of a 421.",
    level="must",
    source="RFC 7838 §6",
    why="A server that answers 421 does not speak for the origin, and must not redirect its clients.",
    proof="a request whose Alt-Used names the alternative of a 421, or that comes to another fake than the one that sent the 421, if no other answer had an Alt-Svc",
    example='C: GET a.site.test/\nS: 421, Alt-Svc: h2=":8443"\nC: GET a.site.test/   (at port 8443)',
)
def ignores_alt_svc_in_421(run: Run) -> Finding:
    told: dict[tuple[str, str], Exchange] = {}
    otherwise: set[tuple[str, str]] = set()  # client and authority: another answer advertised an alternative, too
    for x in run.requests:
        key = x.connection.client, request(x).authority
        before, used = told.get(key), str(request(x).alt_used or "")
        if before is not None and key not in otherwise:
            there = used and used in str(request(before).alt_svc)
            if there or before.connection.journal is not x.connection.journal:
                return broken(f"{key[1]} was asked for where the Alt-Svc of a 421 had sent it", before, x)
        if x.sent(AltSvcFrame) or (request(x).alt_svc and not has_status(x, 421)):
            otherwise.add(key)
        elif request(x).alt_svc:
            told.setdefault(key, x)
    if not told:
        return NOT_EXERCISED
    if len(run.journals) == 1:
        return not_exercised("who is sent to a server that is no fake of this run is not seen there")
    return held(f"{plural(len(told), 'authority', 'authorities')} had an Alt-Svc in a 421")
