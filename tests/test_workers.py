"""Fakes with worker processes, on real sockets: one service with one count of everything, one clock and one journal."""

from __future__ import annotations

import re
import smtplib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from conftest import LOOPS
from notnow import FakeSMTP
from notnow.clock import AdjustableClock, Stamps
from notnow.conduct.pictures.timeline import render
from notnow.errors import ScenarioError
from notnow.journal import Connection, Exchange
from notnow.language import catalogue
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.servers.workers.many import Many, many
from playbook import document, phase, rule

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")

BUSY = "421 4.3.2 busy"
WORKERS = 4


def crew(scenario: str | Scenario, workers: int = WORKERS, speed: float = 1.0, **options: Any) -> Many:
    found = catalogue.scenario(scenario) if isinstance(scenario, str) else scenario
    return many(found.protocol, workers)(found, clock=AdjustableClock(speed, Stamps()), seed=7, **options)


@pytest.fixture(scope="module", params=LOOPS)
def shared(request: pytest.FixtureRequest) -> Iterator[Many]:
    """One crew on each event loop for the tests that only play something on it: its processes take a second to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTNOW_LOOP", request.param)
        with crew("smtp/healthy", speed=0) as fake:
            yield fake


@pytest.fixture
def smtp(shared: Many) -> Iterator[Many]:
    yield shared
    close_all()
    shared.catch_up()
    shared.wait_for(lambda journal: all(c.ended_by for c in journal.connections), timeout=30)
    shared.play("smtp/healthy")
    shared.reset()


OPEN: list[Client] = []


def close_all() -> None:
    """A client stays until the end of its test: one that is thrown away would give back its slot."""
    while OPEN:
        OPEN.pop().close()


class Client:
    """A connection, and its greeting."""

    def __init__(self, fake: Any) -> None:
        OPEN.append(self)
        self.sock = socket.create_connection((fake.host, fake.port), timeout=30)
        self.file = self.sock.makefile("rb")
        self.greeting = self.line()

    def line(self) -> str:
        return self.file.readline().decode().strip()

    def say(self, words: str) -> str:
        self.sock.sendall(f"{words}\r\n".encode())
        return self.line()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def burst(fake: Any, n: int) -> list[Client]:
    """So many clients, as nearly at the same time as threads can."""
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(lambda _: Client(fake), range(n)))


def greetings(clients: list[Client]) -> Counter[str]:
    return Counter(client.greeting[:3] for client in clients)


def played(*parts: Any, **top: Any) -> Scenario:
    return loads(document(*parts, **top))


# ---- counts ------------------------------------------------------------------------------------


def test_a_cap_admits_exactly_that_many_over_all_workers(smtp: Many) -> None:
    smtp.play("smtp/too-many-connections", cap=5)
    assert greetings(burst(smtp, 40)) == {"220": 5, "421": 35}


def test_the_clients_are_spread_over_the_workers(smtp: Many) -> None:
    burst(smtp, 40)
    smtp.catch_up()
    assert len({connection.id.partition("-")[0] for connection in smtp.journal.connections}) == WORKERS


@pytest.mark.parametrize("leave", [Client.close, lambda client: client.say("QUIT")], ids=["close", "quit"])
def test_a_slot_is_free_as_soon_as_a_client_has_left_whichever_worker_served_it(smtp: Many, leave: Any) -> None:
    smtp.play("smtp/too-many-connections", cap=3)
    inside = burst(smtp, 3)
    for _ in range(40):
        leave(inside.pop(0))
        inside.append(Client(smtp))
    assert greetings(inside) == {"220": 3}
    smtp.catch_up()
    assert [x for x in smtp.journal if 421 in x.codes] == []
    assert Client(smtp).greeting.startswith("421")


def test_a_quota_lets_through_exactly_its_number(smtp: Many) -> None:
    smtp.play(played(rule("connect", over=20, within="1h", reply=BUSY)))
    assert greetings(burst(smtp, 50)) == {"220": 20, "421": 30}


def test_the_first_three_are_three_and_a_firing_that_may_happen_twice_happens_twice(smtp: Many) -> None:
    smtp.play(played(rule("connect", first=3, reply=BUSY), rule("connect", times=2, reply="421 4.7.0 later")))
    assert Counter(client.greeting for client in burst(smtp, 30)) == {
        BUSY: 3,
        "421 4.7.0 later": 2,
        "220 fake.notnow.test ESMTP notnow": 25,
    }


def test_a_phase_ends_with_exactly_its_last_event(smtp: Many) -> None:
    smtp.play(played(phase(rule("connect", reply=BUSY), until={"connect": 7}), phase(name="recovered")))
    assert greetings(burst(smtp, 30)) == {"421": 7, "220": 23}
    assert smtp.phase == "recovered"
    smtp.catch_up()
    assert [mark.text for mark in smtp.journal.marks if mark.kind == "phase"] == ["recovered"]


def test_when_a_client_has_seen_the_end_of_a_phase_no_worker_is_in_it_any_more(smtp: Many) -> None:
    for _ in range(20):
        smtp.play(
            played(phase(rule("noop", reply="250 old"), until={"connect": 9}), phase(rule("noop", reply="250 new")))
        )
        clients = [Client(smtp) for _ in range(9)]
        assert {client.say("NOOP") for client in clients} == {"250 new"}


def test_a_server_of_finite_capacity_has_one_queue(smtp: Many) -> None:
    smtp.play(
        played(rule("connect", busy=True, reply=BUSY), server={"capacity": "1/m", "work": ["connect"], "queue": 0})
    )
    with ThreadPoolExecutor(12) as pool:
        clients = [pool.submit(Client, smtp) for _ in range(12)]
        smtp.wait_for(lambda journal: sum(421 in x.codes for x in journal) == 11, timeout=30)
        smtp.clock.advance("2m")
        assert greetings([client.result() for client in clients]) == {"421": 11, "220": 1}


def test_the_same_seed_and_the_same_clients_give_the_same_faults_as_in_one_process(smtp: Many) -> None:
    scenario = played(rule("connect", chance="50%", reply=BUSY), rule("noop", chance="50%", reply="450 no"))
    smtp.play(scenario)
    with FakeSMTP(scenario, seed=smtp.seed) as one:
        for _ in range(30):
            ours, theirs = Client(smtp), Client(one)
            assert ours.greeting == theirs.greeting
            if ours.greeting.startswith("220"):
                assert [ours.say("NOOP") for _ in range(5)] == [theirs.say("NOOP") for _ in range(5)]


# ---- phases and time ---------------------------------------------------------------------------


def test_all_workers_enter_a_phase_that_is_ended_by_hand(smtp: Many) -> None:
    smtp.play(
        played(
            phase(name="first"), phase(rule("enter", reply="450 hello"), rule("noop", reply="450 no"), name="second")
        )
    )
    clients = burst(smtp, 12)
    smtp.next_phase()
    assert {client.line() for client in clients} == {"450 hello"}
    assert {client.say("NOOP") for client in clients} == {"450 no"}
    assert smtp.phase == "second"


def test_the_clock_of_all_is_advanced_with_what_is_due_on_the_way_in_order(smtp: Many) -> None:
    idle = rule("idle", after="20s", reply="450 still there?")
    smtp.play(played(phase(idle, lasts="1m"), phase(rule("enter", reply=BUSY))))
    clients = []
    for _ in range(8):
        clients.append(Client(smtp))
        smtp.clock.advance("1s")
    smtp.clock.advance("60s")
    assert {client.line() for client in clients} == {"450 still there?"}
    assert {client.line() for client in clients} == {"450 still there?"}
    assert [smtp.phase, {client.line() for client in clients}] == ["phase 2", {BUSY}]
    smtp.catch_up()
    idles = [x for x in smtp.journal if x.moment == "idle"]
    start = smtp.journal.connections[0].opened_at
    assert [x.index for x in idles] == sorted(x.index for x in idles)
    assert [round(x.at - start) for x in idles] == [*range(20, 28), *range(40, 48)]
    assert {round(x.at - start) for x in smtp.journal if x.moment == "enter"} == {60}


# ---- what is ordered ---------------------------------------------------------------------------


def test_kick_cuts_off_the_clients_of_all_workers_and_counts_them(smtp: Many) -> None:
    clients = burst(smtp, 20)
    assert smtp.kick() == 20
    assert {client.line()[:3] for client in clients} == {"421"}
    assert smtp.kick() == 0


def test_live_connections_keep_their_slots_when_another_scenario_is_played(smtp: Many) -> None:
    burst(smtp, 6)
    smtp.play("smtp/too-many-connections", cap=8)
    assert greetings(burst(smtp, 20)) == {"220": 2, "421": 18}


def test_nobody_slips_in_while_another_scenario_is_played(smtp: Many) -> None:
    smtp.play("smtp/too-many-connections", cap=8)
    assert greetings(burst(smtp, 8)) == {"220": 8}
    over = threading.Event()

    def hammer(_: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        while not over.is_set():
            client = Client(smtp)
            seen[client.greeting[:3]] += 1
            client.close()
        return seen

    with ThreadPoolExecutor(6) as pool:
        hammers = [pool.submit(hammer, n) for n in range(6)]
        for _ in range(30):
            smtp.play("smtp/too-many-connections", cap=8)
        over.set()
        assert {greeting for one in hammers for greeting in one.result()} == {"421"}


def test_a_reset_erases_the_journal_and_the_mail_of_all(smtp: Many) -> None:
    client = Client(smtp)
    send(smtp)
    smtp.catch_up()
    assert (len(smtp.messages), smtp.journal.count("message")) == (1, 1)
    smtp.reset()
    smtp.catch_up()
    assert (smtp.messages, len(smtp.journal), smtp.journal.count("connect")) == ([], 0, 0)
    assert client.say("NOOP").startswith("250")
    smtp.catch_up()
    assert [x.moment for x in smtp.journal] == ["noop"]


def send(fake: Any, number: int = 0) -> None:
    with smtplib.SMTP(fake.host, fake.port, timeout=30) as client:
        client.sendmail("a@client.test", ["b@server.test"], f"Message-ID: <{number}@client.test>\r\n\r\nhello\r\n")


# ---- the journal -------------------------------------------------------------------------------


def test_mail_of_all_workers_is_there_when_its_reply_is(smtp: Many) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: send(smtp, n), range(60)))
    smtp.catch_up()
    smtp.assert_delivered(times=1, count=60)  # type: ignore[attr-defined]
    assert {m["Message-ID"] for m in smtp.messages} == {f"<{n}@client.test>" for n in range(60)}  # type: ignore[attr-defined]
    connections = {c.number: c for c in smtp.journal.connections}
    for message in smtp.messages:  # type: ignore[attr-defined]
        kept = [x.message for x in connections[message.envelope.connection].exchanges if x.message]
        assert [one.message_id for one in kept if one] == [message["Message-ID"]]


def test_listeners_are_told_in_the_order_in_which_clients_were_answered(smtp: Many) -> None:
    told: list[Any] = []
    stop = smtp.journal.subscribe(told.append)
    for n in range(30):
        send(smtp, n)
    smtp.wait_for(lambda _: len({one.id for one in told if isinstance(one, Connection)}) == 30, timeout=30)
    stop()
    exchanges = list(dict.fromkeys(entry.index for entry in told if isinstance(entry, Exchange)))
    assert exchanges == sorted(exchanges) == [x.index for x in smtp.journal]
    closed = {entry.id: entry.number for entry in told if isinstance(entry, Connection)}
    assert sorted(closed.values()) == list(range(min(closed.values()), min(closed.values()) + 30))


def picture(fake: Any) -> str:
    """The timeline without its times, and with connections from 1."""
    first = fake.journal.connections[0].number
    text = re.sub(r"#(\d+)", lambda found: f"#{int(found[1]) - first + 1}", render([fake.journal]))
    return re.sub(r" +", " ", re.sub(r"(\d+(\.\d+)?(ms|s|m|h) ?)+\b", "t", text))


def careful(fake: Any) -> None:
    """A client that tries each mail until it is through, one after the other."""
    for n in range(4):
        while True:
            try:
                send(fake, n)
                break
            except smtplib.SMTPException:
                continue


def test_the_journal_and_the_verdict_are_those_of_one_process(smtp: Many) -> None:
    scenario = played(rule("connect", nth=2, reply=BUSY), rule("message", every=3, reply="451 4.3.0 later"))
    smtp.play(scenario)
    with FakeSMTP(scenario, seed=smtp.seed) as one:
        careful(one)
        careful(smtp)
        smtp.catch_up()
        for fake in (one, smtp):
            fake.wait_for(lambda journal: all(c.ended_by for c in journal.connections), timeout=30)
        assert picture(smtp).splitlines() == picture(one).splitlines()
        assert [str(f) for f in smtp.fired.values()] == [str(f) for f in one.fired.values()]
        for fake in (one, smtp):
            fake.assert_delivered(times=1, count=4)  # type: ignore[attr-defined]
            fake.assert_no_duplicates()
        ours = [x for x in smtp.journal.since_play() if x.moment in ("connect", "message")]
        theirs = [x for x in one.journal.since_play() if x.moment in ("connect", "message")]
        assert [list(map(str, smtp.explain(x))) for x in ours] == [list(map(str, one.explain(x))) for x in theirs]


def test_a_decision_that_no_count_can_change_is_explained_as_well(smtp: Many) -> None:
    smtp.play(played(rule("connect", where={"client": "192.0.2.*"}, reply=BUSY), rule("connect", reply="421 no")))
    assert Client(smtp).greeting == "421 no"
    smtp.catch_up()
    assert [str(one) for one in smtp.explain(smtp.journal.since_play()[0])] == [
        "phase[0].rule[0] did not fire: where.client: it was '127.0.0.1'",
        "phase[0].rule[1] fired: all its conditions hold",
    ]


def test_a_rule_about_a_header_field_is_carried_out_and_explained(smtp: Many) -> None:
    smtp.play(played(rule("message", where={"header": {"Subject": "*sale*"}}, reply="450 later")))
    with smtplib.SMTP(smtp.host, smtp.port) as client:
        client.sendmail("a@x.test", "b@x.test", b"Subject: news\r\n\r\n")
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("a@x.test", "b@x.test", b"Subject: a sale\r\n\r\n")
    smtp.catch_up()
    assert [str(why) for x in smtp.journal.since_play() if x.moment == "message" for why in smtp.explain(x)] == [
        "phase[0].rule[0] did not fire: where.header.subject: it was 'news'",
        "phase[0].rule[0] fired: all its conditions hold",
    ]


def test_what_a_client_says_after_it_was_refused_is_there(smtp: Many) -> None:
    smtp.play(played(rule("connect", reply=BUSY)))
    client = Client(smtp)
    client.sock.sendall(b"EHLO me\r\n")
    client.close()
    smtp.wait_for(lambda journal: any(c.after for c in journal.connections), timeout=30)


# ---- HTTP --------------------------------------------------------------------------------------


def test_http_has_one_certificate_and_one_quota() -> None:
    scenario = loads(
        document(rule("request", over=10, within="1h", status=429), protocol="http", server={"tls": "implicit"})
    )
    with crew(scenario, workers=2) as fake:
        context = ssl.create_default_context(cafile=fake.ca_file)
        certificates = set()
        for _ in range(12):
            with socket.create_connection((fake.host, fake.port), timeout=30) as raw:
                with context.wrap_socket(raw, server_hostname="localhost") as secure:
                    certificates.add(secure.getpeercert(binary_form=True))
        statuses: Counter[int] = Counter()
        versions = set()
        for _ in range(8):
            with httpx.Client(http2=True, verify=context, base_url=fake.url, timeout=30, trust_env=False) as client:
                for _ in range(4):
                    answer = client.get("/")
                    statuses[answer.status_code] += 1
                    versions.add(answer.http_version)
        fake.catch_up()
        assert len(certificates) == 1
        assert (statuses, versions) == ({200: 10, 429: 22}, {"HTTP/2"})
        assert len({c.id.partition("-")[0] for c in fake.journal.connections}) == 2
        assert fake.journal.count("request") == 32


def test_a_protocol_without_workers_is_refused() -> None:
    with pytest.raises(ScenarioError, match="workers are not for gopher; allowed: 1, or servers of smtp, ftp, http"):
        many("gopher", 2)


def test_a_port_that_another_program_has_is_taken_even_if_that_one_would_share() -> None:
    with crew("smtp/healthy", workers=2) as first:
        with pytest.raises(OSError, match="the port is taken"):
            crew("smtp/healthy", workers=2, port=first.port).start()
