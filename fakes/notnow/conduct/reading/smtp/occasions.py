"""What happened in a run at all: a rule whose occasion never came need not look at every exchange."""

from __future__ import annotations

from msgspec import Struct

from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange


class Occasions(Struct, eq=False):
    """What the exchanges and the connections of a run have among them.

    `kinds` has one exchange for each moment and reply, by a rule or not. `moments` are all that came, `faulty` those at
    which a rule acted, `told_at` those with a 421. `slow`: a rule kept a client waiting for a reply. `silent`: the server
    closed a connection without a reply. `early`: a command arrived before its turn. `spoken_after`: a client spoke after the
    server had closed. `tls` are the connections on which TLS was begun.
    """

    kinds: list[Exchange]
    moments: set[str]
    faulty: set[str]
    told_at: set[str]
    slow: bool
    silent: bool
    early: bool
    spoken_after: bool
    tls: list[Connection]


def occasions(run: Run) -> Occasions:
    """The occasions of a run."""
    kinds = list({(x.moment, x.reply, x.fault is None): x for x in run.exchanges}.values())
    return Occasions(
        kinds,
        moments={x.moment for x in kinds},
        faulty={x.moment for x in kinds if x.fault is not None},
        told_at={x.moment for x in kinds if 421 in x.codes},
        slow=any(x.answered_at != x.at and x.fault is not None for x in run.exchanges),
        silent=any(x.reply is None and x.end is not None for x in run.exchanges),
        early=any(x.arrival is not None for x in run.exchanges),
        spoken_after=any(connection.after for connection in run.by_connection),
        tls=[connection for connection in run.by_connection if connection.tls is not None],
    )
