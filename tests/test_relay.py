"""A journal of several processes: what each has written arrives whole, once, and in order."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from notnow.clock import AdjustableClock, Stamps
from notnow.engine.actions import BEHAVE, Close, Script
from notnow.journal import (
    ConnectionClose,
    ConnectionLost,
    Entry,
    Exchange,
    GoAwayFrame,
    Journal,
    Message,
    Recorder,
    Request,
    RstStreamFrame,
    TLSAlert,
)
from notnow.journal.relay import CHANGING, MAKING, Batch, GatheringRecorder, RelayRecorder
from notnow.journal.transport import pack
from notnow.servers.http.head import Head

EVER = 1 << 62


class Service:
    """Some processes that write, and the one that gathers."""

    def __init__(self, processes: int = 1, limit: int = 1000) -> None:
        self.clock = AdjustableClock(0, Stamps())
        self.gathering = GatheringRecorder(self.clock, server="smtp", limit=limit)
        stamps = self.clock.numbers
        assert isinstance(stamps, Stamps)
        clocks = [
            AdjustableClock.at(self.clock.origin, Stamps(stamps.take_place(), stamps.zero)) for _ in range(processes)
        ]
        self.relays = [RelayRecorder(clock, server="smtp") for clock in clocks]
        self.told: list[Entry] = []
        self.gathering.journal.subscribe(self.told.append)

    @property
    def journal(self) -> Journal:
        return self.gathering.journal

    def gather(self, *, until: int | None = EVER) -> None:
        self.gathering.gather([(n, sent(relay.batch())) for n, relay in enumerate(self.relays)], until)


def sent(batch: Batch) -> Batch:
    """What comes out of the line between two processes."""
    found: Batch = pickle.loads(pickle.dumps(batch))
    return found


def plain(journal: Journal) -> Any:
    return json.loads("".join(pack(journal)))


REFUSAL = Script("c-2", (Close(),), "connect", "second", "phase[1].rule[0]", "reply")
REQUEST = Head("GET", b"/", "a.test", (), "2").record
Step = Callable[[RelayRecorder, Exchange], object]
STEPS: dict[str, Step] = {
    "arrived": lambda r, x: r.arrived(x, r.now()),
    "refused": lambda r, x: r.refused(x, "limit", "phase[0].rule[1]"),
    "answer": lambda r, x: r.answer(x, "250 ok"),
    "answered": lambda r, x: r.answered(x),
    "unanswer": lambda r, x: r.unanswer(x, "354 go"),
    "frame": lambda r, x: r.frame(x, GoAwayFrame("NO_ERROR", 3)),
    "facts": lambda r, x: r.facts(x, Message("<1@a>", None, "a@b", ("c@d",), size=7)),
    "end": lambda r, x: r.end(x, TLSAlert("unknown_ca")),
    "turned_away": lambda r, x: r.turned_away(x, "421 no", ConnectionClose()),
    "turn_away": lambda r, _: r.turn_away(("c-2", "192.0.2.1", 6), r.clock.now(), REFUSAL, "421 no", ConnectionClose()),
    "served": lambda r, x: r.served(x.connection, "GET a.test/", r.clock.read(), REFUSAL, "421 no", REQUEST),
    "stopped": lambda r, x: r.stopped(x),
    "goaway": lambda r, x: r.goaway(x.connection, GoAwayFrame("NO_ERROR", 5), x),
    "tls": lambda r, x: r.tls(x.connection, sni="a.test", version="TLSv1.3"),
    "failed": lambda r, x: r.failed(x.connection, ConnectionLost("reset")),
    "leaving": lambda r, x: r.leaving(x.connection),
    "said_after": lambda r, x: r.said_after(x.connection, b"EHLO me"),
    "unread": lambda r, x: r.unread(x.connection, b"QUIT"),
    "close": lambda r, x: r.close(x.connection, "client"),
    "decided": lambda r, x: r.decided(x, Script("a", BEHAVE, "connect", "second", "phase[1].rule[0]", "reply")),
    "also": lambda r, _: r.also("body"),
}


@pytest.mark.parametrize("name", STEPS)
def test_what_is_written_after_a_report_comes_with_the_next(name: str) -> None:
    service = Service()
    relay = service.relays[0]
    exchange = relay.ask(relay.open("c-1", "192.0.2.1", 5), "connect", "", "first")
    service.gather()
    assert plain(service.journal) == plain(relay.journal) | {"limit": 1000}
    STEPS[name](relay, exchange)
    service.gather()
    assert plain(service.journal) == plain(relay.journal) | {"limit": 1000}


def test_more_of_an_exchange_is_more_of_the_gathered_one() -> None:
    service = Service()
    relay = service.relays[0]
    exchange = relay.ask(relay.open("c-1", "192.0.2.1", 5), "message", "", "first")
    relay.facts(exchange, Message("<1@a>", None, "a@b", ("c@d",)))
    service.gather()
    relay.more(exchange, size=9)
    service.gather()
    assert plain(service.journal) == plain(relay.journal) | {"limit": 1000}


def test_the_head_of_a_response_is_relayed() -> None:
    service = Service()
    relay = service.relays[0]
    asked = Request(1, "2", "GET", "a", "a", "/", (), None, 0, None, 0, False, False)
    exchange = relay.ask(relay.open("c-1", "192.0.2.1", 5), "request", "GET a/", "first", facts=asked)
    service.gather()
    relay.response(exchange, "421 Misdirected Request", 0.0, 421, 5, 5, {"retry_after": "9"})
    assert exchange.http == Request(
        1, "2", "GET", "a", "a", "/", (), 421, 0, None, 5, True, False, retry_after="9", length=5
    )
    service.gather()
    assert plain(service.journal) == plain(relay.journal) | {"limit": 1000}


def test_every_method_that_writes_is_relayed() -> None:
    writes = {name for name, value in vars(Recorder).items() if callable(value) and not name.startswith("_")}
    relayed = {name for name in vars(RelayRecorder) if name in writes}
    assert writes - relayed == {"now"}
    assert {*MAKING, *CHANGING} < relayed
    assert set(CHANGING) == {*STEPS, "more", "response"} - {"decided", "also", *MAKING}


def test_entries_of_two_processes_are_in_order_and_connections_are_numbered_in_it() -> None:
    service = Service(2)
    for n in range(10):
        relay = service.relays[n % 2]
        connection = relay.open(f"{n % 2}-{n}", "192.0.2.1", n)
        relay.answer(relay.ask(connection, "connect", f"{n}", "first"), "220 hi")
        service.clock.stamp()
    service.gather()
    assert [x.request for x in service.journal] == [f"{n}" for n in range(10)]
    assert [c.number for c in service.journal.connections] == list(range(1, 11))
    assert [x.request for x in service.told if isinstance(x, Exchange)] == [f"{n}" for n in range(10)]
    assert service.journal.count("connect") == 10


def test_what_is_ahead_of_the_report_of_another_process_waits_for_it() -> None:
    service = Service(2)
    first, second = service.relays
    late = sent(second.batch())  # complete up to here
    first.answer(first.ask(first.open("1-1", "192.0.2.1", 1), "connect", "", "first"), "220 hi")
    service.gathering.gather([(0, sent(first.batch())), (1, late)])
    assert (len(service.journal), service.journal.connections, service.told) == (0, (), [])
    second.answer(second.ask(second.open("2-1", "192.0.2.1", 2), "connect", "", "first"), "220 hi")
    service.gather(until=None)
    assert [c.id for c in service.journal.connections] == ["1-1", "2-1"]
    assert [x.connection.id for x in service.told if isinstance(x, Exchange)] == ["1-1", "2-1"]


def test_a_reset_erases_what_was_not_gathered_yet_but_not_connections_that_live() -> None:
    service = Service()
    relay = service.relays[0]
    connection, other = relay.open("c-1", "192.0.2.1", 5), relay.open("c-2", "192.0.2.1", 6)
    old = relay.ask(connection, "connect", "", "first")
    relay.close(other, "client")
    relay.reset()
    service.gathering.reset()
    relay.answer(old, "220 hi")  # which the journal has no more
    new = relay.ask(connection, "noop", "NOOP", "first")
    relay.answer(new, "250 ok")
    service.gather()
    assert [x.moment for x in service.journal] == ["noop"]
    assert [c.id for c in service.journal.connections] == ["c-1"]
    assert service.journal._counts == {"noop": 1}


def test_the_oldest_exchanges_go_where_there_are_too_many() -> None:
    service = Service(limit=3)
    relay = service.relays[0]
    for n in range(5):
        connection = relay.open(f"c-{n}", "192.0.2.1", n)
        relay.ask(connection, "connect", f"{n}", "first")
        relay.close(connection, "client")
        service.gather()
    assert [x.request for x in service.journal] == ["2", "3", "4"]
    assert (service.journal.dropped, [c.id for c in service.journal.connections]) == (2, ["c-2", "c-3", "c-4"])


def test_frames_of_a_stream_are_not_those_of_the_connection() -> None:
    service = Service()
    relay = service.relays[0]
    exchange = relay.ask(relay.open("c-1", "192.0.2.1", 5), "request", "", "first")
    relay.frame(exchange, RstStreamFrame("CANCEL", 1))
    service.gather()
    assert (service.journal.exchanges[0].reset, service.journal.connections[0].goaways) == (True, ())
