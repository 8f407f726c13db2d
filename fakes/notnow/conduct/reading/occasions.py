"""What happened in a run at all: a rule whose occasion never came need not look at every exchange."""

from __future__ import annotations

from operator import attrgetter

from msgspec import Struct

from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange


class Occasions(Struct, eq=False):
    """What the exchanges and the connections of a run have among them.

    `kinds` has one exchange for each moment, reply and fault, with an end or without. `moments` are all that came, `faulty` those at
    which a rule acted, `told_at` those with a 421. `slow`: a rule kept a client waiting for a reply. `silent`: the server
    closed a connection without a reply. `early`: a command arrived before its turn. `spoken_after` are the connections
    on which the client spoke after the server had closed, or while it read no more, `tls` those on which TLS was begun,
    `failed` those with a failure, and `with_goaway` those with a GOAWAY.
    """

    kinds: list[Exchange]
    moments: set[str]
    faulty: set[str]
    told_at: set[str]
    slow: bool
    silent: bool
    early: bool
    spoken_after: list[Connection]
    tls: list[Connection]
    failed: list[Connection]
    with_goaway: list[Connection]


def occasions(run: Run) -> Occasions:
    """The occasions of a run."""
    exchanges = run.exchanges
    kinds = list({(x.moment, x.reply, x.fault, x.end is None): x for x in exchanges}.values())
    faulty = {x.moment for x in kinds if x.fault is not None}
    eventful = [c for c in run.by_connection if c.tls or c.after or c.unread or c.failure or c.goaways]
    return Occasions(
        kinds,
        moments={x.moment for x in kinds},
        faulty=faulty,
        told_at={x.moment for x in kinds if 421 in x.codes},
        slow=bool(faulty) and any(x.fault is not None and x.answered_at != x.at for x in exchanges),
        silent=any(x.reply is None and x.end is not None for x in kinds),
        early=any(map(attrgetter("arrival"), exchanges)),
        spoken_after=[connection for connection in eventful if connection.after or connection.unread],
        tls=[connection for connection in eventful if connection.tls is not None],
        failed=[connection for connection in eventful if connection.failure is not None],
        with_goaway=[connection for connection in eventful if connection.goaways],
    )
