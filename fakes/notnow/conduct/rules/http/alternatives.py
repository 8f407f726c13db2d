"""Rules about ORIGIN frames and alternative services."""

from __future__ import annotations

import re
from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Finding, broken, inconclusive, not_exercised
from notnow.conduct.reading.http.asked import request
from notnow.conduct.reading.http.requests import CROSSING
from notnow.conduct.reading.http.retries import host_of_connection, statuses, surely_knew, told, tries
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import AltSvcFrame, Connection, Journal, OriginFrame
from notnow.units import plural, show

_HOST = re.compile(r"^\w+://(\[[^\]]*\]|[^:/]*)")
_ON_ITS_WAY = f"a request that was on its way when the 421 was sent: one within {show(CROSSING)} of real time"


def _again(seen: str, refusal: Try, one: Try) -> Finding:
    """The client asked where it had been told 421, unless the request was on its way by then."""
    if surely_knew(one, refusal):
        return broken(seen, refusal.began, one.began)
    why = f"{seen}, but it may have been on its way when the 421 was sent"
    return inconclusive(why, f"a further request more than {show(CROSSING)} later", refusal.began, one.began)


@rule(
    "http.forget-origin",
    title="If a host that ORIGIN named answers 421, the client does not ask for it on that connection again.",
    level="must",
    source="RFC 8336 §2.3",
    why="The origin set was wrong about the host, and the client knows that now.",
    occasion="ORIGIN names a host on a connection made for another host, that host answers 421, and the client asks for it again",
    proof="a request for that host on the same connection",
    innocent=_ON_ITS_WAY,
    example="S: ORIGIN https://b.site.test\nC: GET b.site.test/1\nS: 421 Misdirected Request\nC: GET b.site.test/2   (the same connection)",
)
def forgets_the_origin(run: Run) -> Finding:
    return over(_taken_back(run), lambda n: f"{plural(n, 'origin')} forgotten")


def _taken_back(run: Run) -> Iterator[Finding]:
    origins = _origins(run) if statuses(run)[421] else {}
    if not origins:
        return
    firsts: dict[Connection, Try] = {}
    refused: dict[tuple[Connection, str], Try] = {}
    waiting: dict[tuple[str, str], int] = {}  # client and host -> how often it was taken back, and not asked for since
    for one in tries(run):
        connection, host = one.connection, request(one.began).host
        first = firsts.setdefault(connection, one)
        if (refusal := refused.get((connection, host))) is not None:
            yield _again(f"{host} was asked for again where it had got 421", refusal, one)
        elif count := waiting.pop((connection.client, host), 0):
            yield from [HELD] * count
        named = origins.get((connection, host))
        if told(one) != 421 or named is None or named > one.ended_index:
            continue
        if host != host_of_connection(connection, first.began) and (connection, host) not in refused:
            refused[connection, host] = one
            waiting[connection.client, host] = waiting.get((connection.client, host), 0) + 1


def _origins(run: Run) -> dict[tuple[Connection, str], int]:
    """Where ORIGIN first named a host on a connection, in the order of everything that happened."""
    found: dict[tuple[Connection, str], int] = {}
    for x in run.exchanges:
        for frame in x.sent(OriginFrame) if x.frames else ():
            for match in filter(None, map(_HOST.match, frame.origins)):
                found.setdefault((x.connection, match[1].lower()), x.index)
    return found


@rule(
    "http.drop-alternative",
    title="If an alternative service answers 421, the client does not use it for that origin again.",
    level="must",
    source="RFC 7838 §6",
    why="The alternative does not serve the origin. Every further request costs a round trip and fails.",
    occasion="an alternative (named by Alt-Used, or a fake other than the one that advertised it) answers 421, and a further request for that authority follows",
    proof="a request for the same authority at the same alternative",
    innocent=_ON_ITS_WAY,
    example='origin: Alt-Svc: h2=":8443"\nC: GET a.site.test/   (at the alternative)\nS: 421 Misdirected Request\nC: GET a.site.test/   (at the alternative)',
)
def drops_the_alternative(run: Run) -> Finding:
    return over(_refused_alternatives(run), lambda n: f"{plural(n, 'alternative')} dropped")


def _refused_alternatives(run: Run) -> Iterator[Finding]:
    advertised: dict[tuple[str, str], Journal] = {}  # client and authority -> the server that advertised an alternative
    dropped: dict[tuple[object, ...], Try] = {}
    waiting: dict[tuple[str, str], int] = {}  # client and authority -> alternatives dropped since it was asked for
    for one in tries(run) if statuses(run)[421] else ():
        asked, server = request(one.began), one.connection.journal
        key = one.connection.client, asked.authority
        place = *key, server, asked.alt_used
        if (refusal := dropped.get(place)) is not None:
            yield _again(f"{key[1]} was asked for again at the alternative that had answered 421", refusal, one)
        elif count := waiting.pop(key, 0):
            yield from [HELD] * count
        by = advertised.get(key)
        if told(one) == 421:
            if (asked.alt_used or (by is not None and by is not server)) and place not in dropped:
                dropped[place] = one
                waiting[key] = waiting.get(key, 0) + 1
        elif by is None and (asked.alt_svc or one.began.sent(AltSvcFrame)):
            advertised[key] = server


@rule(
    "http.ignore-alt-svc-in-421",
    title="The client ignores the Alt-Svc field of a 421.",
    level="must",
    source="RFC 7838 §6",
    why="A server that answers 421 does not speak for the origin, and must not redirect its clients.",
    occasion="a 421 with an Alt-Svc field, and a further request for that authority",
    proof="a request whose Alt-Used names the alternative of the 421, or that comes to a fake other than the one that sent it",
    innocent=f"an alternative that another answer had named; {_ON_ITS_WAY}",
    example='C: GET a.site.test/\nS: 421, Alt-Svc: h2=":8443"\nC: GET a.site.test/   (at port 8443)',
)
def ignores_alt_svc_in_421(run: Run) -> Finding:
    seen = lambda n: f"{plural(n, 'authority', 'authorities')} had an Alt-Svc in a 421"  # noqa: E731
    alone = len(run.journals) == 1
    elsewhere = not_exercised("a client that goes to a server outside of this run is not seen there")
    unseen = alone and statuses(run)[421] and any(told(one) == 421 and request(one.began).alt_svc for one in tries(run))
    return over(_advertised_in_421(run, alone), seen, elsewhere if unseen else NOT_EXERCISED)


def _advertised_in_421(run: Run, alone: bool) -> Iterator[Finding]:
    refused: dict[tuple[str, str], Try] = {}
    counted: set[tuple[str, str]] = set()
    otherwise: set[tuple[str, str]] = set()  # client and authority: another answer advertised an alternative, too
    for one in tries(run) if statuses(run)[421] else ():
        asked = request(one.began)
        key = one.connection.client, asked.authority
        refusal = refused.get(key)
        if refusal is not None and key not in otherwise:
            if _follows(refusal, one):
                yield _again(f"{key[1]} was asked for where the Alt-Svc of a 421 had sent it", refusal, one)
            elif not alone and key not in counted:
                counted.add(key)
                yield HELD
        if one.began.sent(AltSvcFrame) or (asked.alt_svc and told(one) != 421):
            otherwise.add(key)
        elif asked.alt_svc:
            refused.setdefault(key, one)


def _follows(refusal: Try, one: Try) -> bool:
    used, named = request(one.began).alt_used, str(request(refusal.began).alt_svc)
    return bool(used and used in named) or refusal.connection.journal is not one.connection.journal
