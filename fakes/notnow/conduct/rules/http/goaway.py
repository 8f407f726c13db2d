"""Rules about GOAWAY (RFC 9113 §6.8)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from notnow.conduct.finding import HELD, NOT_EXERCISED, Evidence, Finding, broken, inconclusive, not_exercised
from notnow.conduct.reading.http.asked import left, request
from notnow.conduct.reading.http.requests import speed
from notnow.conduct.reading.http.retries import told, tries
from notnow.conduct.reading.ledger import Try
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.cases import over
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, GoAwayFrame
from notnow.units import plural, show

CROSSING = 0.25  # real seconds within which a new stream may have crossed the GOAWAY
AT_ONCE = 1.0  # seconds after a GOAWAY: a client that leaves sooner has not waited for its answers


@rule(
    "http.no-stream-after-goaway",
    title="After a GOAWAY the client opens no new stream on that connection.",
    level="must",
    source="RFC 9113 §6.8",
    why="The server does not serve the stream, and cannot shut down while it is open.",
    occasion="a GOAWAY, and a further request of that client",
    proof=f"a request that arrives on the connection more than {show(CROSSING)} of real time after the GOAWAY left",
    innocent="a request that was on its way when the GOAWAY left",
    example="S: GOAWAY NO_ERROR, last stream 1\nC: GET a.site.test/2   (stream 3, five seconds later)",
)
def heeds_goaway(run: Run) -> Finding:
    sent = run.once(occasions).with_goaway
    last = not_exercised("no request followed it while the connection was open")
    return over(_told_to_go(run), lambda n: plural(n, "GOAWAY"), last if sent else NOT_EXERCISED)


def _told_to_go(run: Run) -> Iterator[Finding]:
    ahead_of = {client: deque(connections) for client, connections in _with_goaway(run).items()}
    told: dict[str, dict[Connection, Try | None]] = {}  # by client: those it was told to leave, and what met the GOAWAY
    for one in tries(run) if ahead_of else ():
        ahead, mine = ahead_of.get(one.connection.client), told.setdefault(one.connection.client, {})
        while ahead and ahead[0].goaways[0].index < one.started_index:
            mine[ahead.popleft()] = None
        yield from _opened(one)
        if one.connection in mine:
            mine[one.connection] = one
        for connection in [c for c in mine if c is not one.connection]:
            if _is_open(connection, one):
                yield HELD
            if mine[connection] is None or _is_open(connection, one):
                del mine[connection]
    yield from (_met(one) for mine in told.values() for one in mine.values() if one is not None)


def _with_goaway(run: Run) -> dict[str, list[Connection]]:
    """The connections with a GOAWAY of each client, in the order of these."""
    found: dict[str, list[Connection]] = {}
    for connection in sorted(run.once(occasions).with_goaway, key=lambda c: c.goaways[0].index):
        found.setdefault(connection.client, []).append(connection)
    return found


def _is_open(connection: Connection, one: Try) -> bool:
    """True if a client could still have used a connection when it asked on another one."""
    end = left(connection)
    return end is None or end[1] > one.started_index


def _opened(one: Try) -> Iterator[Finding]:
    """A stream that was opened on a connection long after its GOAWAY."""
    if not one.connection.goaways:
        return
    goaway = one.connection.goaways[0]
    since = one.started_at - goaway.at
    if since > CROSSING * speed(one.connection):
        why = f"stream {request(one.began).stream} was opened {show(since)} after a GOAWAY"
        yield broken(why, _saying(goaway, one.connection), one.began)


def _met(one: Try) -> Finding:
    why = f"stream {request(one.began).stream} came after a GOAWAY, and may have met it on the way"
    settled = f"a further request more than {show(CROSSING)} after the GOAWAY"
    return inconclusive(why, settled, _saying(one.connection.goaways[0], one.connection), one.began)


def _saying(goaway: GoAwayFrame, connection: Connection) -> Evidence:
    """The exchange with which a GOAWAY left, or its connection."""
    return next((x for x in connection.exchanges if goaway in x.frames), connection)


@rule(
    "http.finish-below-last",
    title="After a GOAWAY the client waits for the answers to its requests that the server still serves.",
    level="advice",
    source="RFC 9113 §6.8 (streams up to the last one of the GOAWAY might still complete successfully)",
    why="The server carries them out. A client that hangs up loses the answers, and must not repeat what is not idempotent.",
    occasion=f"a GOAWAY while a request up to its last stream is under way, and an answer that comes more than {show(CROSSING)} of real time later",
    proof=f"the client closes the connection within {show(AT_ONCE)} of real time after the GOAWAY, before the answer",
    innocent="a client that has waited longer; a connection that the fake ended; a request above the last stream",
    example="C: GET a.site.test/1   (stream 1)\nS: GOAWAY NO_ERROR, last stream 1\nC: closes the connection",
)
def finishes_below_the_last(run: Run) -> Finding:
    return over(_under_way(run), lambda n: f"{plural(n, 'request')} waited for after a GOAWAY")


def _under_way(run: Run) -> Iterator[Finding]:
    for one in tries(run) if run.once(occasions).with_goaway else ():
        goaways, asked = one.connection.goaways, request(one.began)
        if not goaways or one.started_index > goaways[0].index or asked.stream > goaways[-1].last_stream:
            continue
        waited, real = one.ended_at - goaways[0].at, speed(one.connection)
        if told(one) is not None and CROSSING * real < waited:
            yield HELD
        elif one.by is one.connection and _by_client(one.connection) and 0 <= waited < AT_ONCE * real:
            why = f"it left {show(waited)} after the GOAWAY, and stream {asked.stream} was still served"
            yield broken(why, _saying(goaways[0], one.connection), one.began)


def _by_client(connection: Connection) -> bool:
    end = left(connection)
    return connection.ended_by == "client" or (end is not None and end[1] == connection.left_index)
