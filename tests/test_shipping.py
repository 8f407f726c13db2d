"""The journals of all replicas as one: what each has told of itself stays apart, also where the numbers are the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import pairwise

from conduct_playbook import Play
from notnow import ManualClock
from notnow.conduct.judging import judge, select
from notnow.conduct.reading.run import Run
from notnow.journal import Journal, transport
from notnow.shared.shipping import gathered

GET, POST, GONE = "GET a.site.test/", "POST a.site.test/pay", "-> !404 gone"


def replica(protocol: str = "http") -> Play:
    """Each has a clock of its own, which numbers from 1."""
    play = Play(protocol)
    play.recorders[0].mark("play", "gone", protocol=protocol, toml="", knobs={"index": 7})
    return play


def entries(play: Play, member: str) -> Iterator[Mapping[str, str]]:
    (journal,) = play.journals
    told = [("mark", transport.packed_mark(one)) for one in journal.marks]
    told += [("connection", transport.packed_connection(one)) for one in journal.connections]
    told += [("exchange", transport.packed_exchange(one)) for one in journal.exchanges]
    for number, (kind, data) in enumerate(told, 1):
        yield {"member": member, "play": "1", "speed": "1", "number": str(number), kind: json.dumps(data)}


def together(**replicas: Play) -> list[Journal]:
    clock = ManualClock()
    found = gathered(one for name, play in replicas.items() for one in entries(play, name.replace("_", "/")))
    return [one.journal(clock) for one in found]


def test_what_two_replicas_did_at_the_same_time_has_two_numbers() -> None:
    one, other = replica(), replica()
    for play in (one, other):
        play.connect(f"{GET} {GONE}", "(1s)", f"(early 1s) {GET}", "(leaves)")
    (journal,) = together(http_a=one, http_b=other)
    numbers = [x.index for x in (*journal.exchanges, *journal.connections, *journal.marks)]
    assert len(set(numbers)) == len(numbers)
    assert all(x.index < y.index for x, y in pairwise(journal.exchanges))
    assert len(journal.since_play()) == len(journal.exchanges) == 6
    assert [mark.more["knobs"] for mark in journal.marks] == [{"index": 7}] * 2
    for connection in journal.connections:
        opened, first, late = connection.exchanges
        order = [
            connection.index,
            opened.index,
            first.index,
            late.arrived_index,
            late.index,
            connection.closed_index or 0,
        ]
        assert order == sorted(set(order))


def test_nor_is_a_client_of_one_taken_for_that_of_another() -> None:
    """A request between two others may have changed the answer to them, if it was one of the same client."""
    one, other = replica(), replica()
    one.connect(*[f"{GET} {GONE}", POST] * 3, client="192.0.2.1")
    other.connect(*[f"{GET}{n}" for n in range(6)], client="192.0.2.2")
    for journals in (one.journals, together(http_a=one, http_b=other)):
        (verdict,) = judge(Run(journals), select(["http.final-is-final"]))
        assert verdict.finding.outcome == "held"


def test_what_happened_at_several_servers_stays_in_order() -> None:
    smtp, http = replica("smtp"), replica()
    smtp.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", ". <1@x>")
    http.recorders[0].clock.advance("1s")
    for _ in range(20):  # numbers that smtp has not reached
        http.clock.stamp()
    http.connect(f"{GET} -> GOAWAY NO_ERROR, last stream 1")
    journals = together(http_a=http, smtp_a=smtp)
    assert [journal.server for journal in journals] == ["http", "smtp"]
    exchanges = Run(journals).exchanges
    assert [x.connection.server for x in exchanges] == [*["smtp"] * 4, "http", "http"]
    assert exchanges[-1].frames[0].index == exchanges[-1].connection.goaways[0].index > exchanges[-1].index
