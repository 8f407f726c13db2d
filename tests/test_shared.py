"""Replicas in one process, and a real Redis: what one does holds for all, and what happens when Redis goes away."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock, true_time
from notnow.clock import Stamps
from notnow.errors import LostError, NotRunningError, ScenarioError, StartError
from notnow.language.loading import loads
from notnow.shared.clock import SharedClock
from playbook import BYE, NO, document, phase, rule
from redis_server import RedisServer, free_port, running
from shared_service import Line, admits, eventually, two

pytestmark = pytest.mark.usefixtures("each_loop")
CAP = document(rule("connect", over=2, reply=BYE))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as found:
        yield found


@pytest.fixture
def url(server: RedisServer) -> str:
    return f"{server.url}?socket_timeout=9&name=service"


class TestWhatOneDoesHoldsForAll:
    def test_a_udp_port_that_is_silent_is_that_of_each_replica(self, url: str) -> None:
        scenario = loads('protocol = "http"\n[server]\nh3 = "silent"\n')
        with FakeHTTP(scenario, shared=url) as one, FakeHTTP(scenario, shared=url) as other:
            one.stop()
            one.start()
            for fake in (one, other):
                with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(OSError, match="in use"):
                    sock.bind((fake.host, fake.port))

    def test_a_cap(self, url: str) -> None:
        with two(url, loads(CAP)) as (one, other):
            held = [Line(one.port), Line(other.port)]
            assert [line.admitted for line in held] == [True, True]
            assert not admits(one.port)
            assert not admits(other.port)
            held[0].ask("QUIT")
            assert admits(other.port)
            for line in held:
                line.close()

    def test_the_next_phase_by_hand(self, url: str) -> None:
        scenario = loads(document(phase(name="1"), phase(rule("enter", reply="450 hello"), name="2")))
        with two(url, scenario) as (one, other), closing(Line(other.port)) as line:
            one.next_phase()
            assert other.phase == "2"
            assert line.hear() == "450 hello"

    def test_time_that_is_advanced(self, url: str) -> None:
        scenario = loads(document(phase(lasts="1h", name="1"), phase(rule("enter", reply="450 hello"), name="2")))
        with two(f"{url}&speed=0", scenario) as (one, other), closing(Line(other.port)) as line:
            one.clock.advance("59m")
            assert (one.phase, other.phase) == ("1", "1")
            other.clock.advance("2m")
            assert (one.phase, other.phase) == ("2", "2")
            assert one.clock.now() == other.clock.now() == 3660
            assert line.hear() == "450 hello"

    def test_a_kick(self, url: str) -> None:
        with two(url) as (one, other), closing(Line(one.port)) as here, closing(Line(other.port)) as there:
            assert one.kick() == 1
            assert [line.hear()[:3] for line in (here, there)] == ["421", "421"]
            assert other.journal.exchanges[-1].fault == "kicked"
            other.kick()
            with closing(Line(one.port)) as again:
                assert again.admitted

    def test_another_scenario(self, url: str) -> None:
        with two(url, loads(CAP)) as (one, other), closing(Line(other.port)) as line:
            assert line.admitted
            one.play(loads(document(rule("connect", over=1, reply=BYE), rule("noop", reply=NO))))
            assert line.ask("NOOP") == NO
            assert not admits(one.port)  # the connection at the other replica has kept its slot
            other.play("smtp/healthy")
            assert one.scenario.name == "smtp/healthy"
            assert admits(one.port)

    def test_a_replica_that_comes_later_plays_what_the_others_play(self, url: str) -> None:
        with FakeSMTP(loads(CAP), shared=url) as one:
            one.play("smtp/overload")
            with FakeSMTP(loads(CAP), shared=url) as other:
                assert other.scenario.name == "smtp/overload"
                assert not admits(other.port)

    def test_a_phase_that_events_end(self, url: str) -> None:
        scenario = loads(document(phase(until={"connect": 3}), phase(rule("connect", reply=BYE))))
        with two(url, scenario) as (one, other):
            assert [admits(fake.port) for fake in (one, other, one, other, one)] == [True, True, True, False, False]

    def test_all_have_left_so_it_begins_anew(self, url: str) -> None:
        scenario = loads(document(rule("connect", after=1, reply=BYE)))
        for _ in range(2):
            with two(url, scenario) as (one, other):
                assert [admits(fake.port) for fake in (one, other)] == [True, False]

    def test_what_they_leave_in_redis_is_the_journal(self, url: str, server: RedisServer) -> None:
        import redis

        with two(url, loads(CAP)) as (one, other), closing(Line(one.port)):
            assert admits(other.port)
        with redis.Redis.from_url(server.url) as direct:
            assert direct.keys() == [b"notnow:1:{service}:journal"]

    def test_a_call_returns_when_the_slowest_replica_has_carried_it_out(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scenario = loads(document(phase(name="1"), phase(name="2")))
        with two(url, scenario) as (one, other):
            heart, slow = other._bridge.sharing.heart, threading.Event()  # type: ignore[attr-defined]
            news = heart.replica.news
            monkeypatch.setattr(heart.replica, "news", lambda: (slow.wait(20), news())[1])
            threading.Timer(0.3, slow.set).start()
            one.next_phase()
            assert other.phase == "2"

    def test_every_protocol(self, url: str) -> None:
        with (
            FakeFTP("ftp/too-many-users", cap=1, shared=url) as one,
            FakeFTP("ftp/too-many-users", cap=1, shared=url) as other,
        ):
            held = Line(one.port)
            found = Line(other.port)
            for line in (held, found):
                line.ask("USER a")
            assert [held.ask("PASS a")[:3], found.ask("PASS a")[:3]] == ["230", "421"] or not found.admitted
            held.close()
            found.close()
        http = loads('protocol = "http"\n[[phase]]\n[[phase.rule]]\non = "request"\nafter = 1\nstatus = 429\n')
        with FakeHTTP(http, shared=url) as web, FakeHTTP(http, shared=url) as other_web:
            assert [get(fake.port) for fake in (web, other_web)] == ["200", "429"]


def get(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return sock.makefile("rb").readline().decode().split()[1]


class TestTheClock:
    def test_events_of_all_replicas_stand_in_the_order_of_their_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = [100.0]
        monkeypatch.setattr(true_time, "monotonic", lambda: real[0])
        one, other = SharedClock(0), SharedClock(0)
        for clock in (one, other):
            clock.align(100.0, 5.0)
        at = 5_000_000 * Stamps.PLACES
        assert [one.stamp(), one.stamp(), other.stamp()] == [at, at + Stamps.PLACES, at]
        one.catch_up(7.0)
        assert (one.now(), one.stamp()) == (7.0, 7_000_000 * Stamps.PLACES)
        real[0] += 1  # also while scenario time stands still
        assert (other.now(), other.stamp()) == (5.0, 6_000_000 * Stamps.PLACES)

    def test_no_two_workers_of_a_replica_draw_the_same_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(true_time, "monotonic", lambda: 100.0)
        main = SharedClock(0)
        main.align(100.0, 5.0)
        stamps = main.numbers
        assert isinstance(stamps, Stamps)
        workers = [SharedClock(0, stamps.take_place()) for _ in range(2)]
        for clock in workers:
            clock.show(main.origin)
        assert [clock.stamp() - 5_000_000 * Stamps.PLACES for clock in (main, *workers)] == [0, 1, 2]

    def test_what_was_advanced_is_shown_once(self) -> None:
        clock = SharedClock(0)
        for total in (2.0, 2.0, 1.0, 3.0):
            clock.catch_up(total)
        assert clock.now() == 3.0

    def test_it_cannot_be_advanced_before_it_is_that_of_a_service(self) -> None:
        with pytest.raises(NotRunningError, match="no fake of this process runs; start one first"):
            SharedClock().advance("1h")
        with pytest.raises(ValueError, match="cannot advance by -1"):
            SharedClock().advance(-1)


class TestLeases:
    def test_a_lease_that_was_lost_is_taken_again_with_all_slots(self, url: str, server: RedisServer) -> None:
        import redis

        with two(url, loads(CAP)) as (one, other), closing(Line(one.port)) as line:
            assert line.admitted
            with redis.Redis.from_url(server.url) as direct:
                direct.zadd("notnow:1:{service}:leases", {one._bridge.sharing.replica.member: 0})  # type: ignore[attr-defined]
            with closing(Line(other.port)):  # it drops the replica whose lease has ended
                assert [admits(one.port), admits(other.port)] == [False, False]


class TestRedisGoesAway:
    @pytest.mark.parametrize(("when_lost", "admitted"), [("closed", False), ("open", True)])
    def test_it_fails_as_the_user_chose_and_comes_back_by_itself(
        self, server: RedisServer, url: str, when_lost: str, admitted: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        with two(f"{url}&when-lost={when_lost}", loads(CAP)) as (one, other), closing(Line(one.port)) as held:
            server.stop()
            for fake in (one, other, one):
                with closing(Line(fake.port)) as line:
                    assert line.admitted == admitted
                    assert admitted or line.greeting == BYE  # the scenario's own refusal
            assert held.ask("NOOP").startswith("250")
            with pytest.raises(LostError, match="so the other replicas cannot be told"):
                one.play("smtp/healthy")
            server.start()
            for fake in (one, other):
                fake.wait_for(lambda journal: any(mark.kind == "back" for mark in journal.marks), timeout=20)
            with closing(Line(other.port)) as second:  # the slot of the connection that lived on counts
                assert second.admitted
                assert [admits(one.port), admits(other.port)] == [False, False]
            assert [mark.kind for mark in one.journal.marks] == ["play", "lost", "back"]
        said = [record.getMessage() for record in caplog.records if record.name == "notnow.shared"]
        assert len([text for text in said if "is lost" in text]) == 2  # once for each replica
        assert f"'service' is {when_lost}" in said[0]

    def test_where_no_rule_looks_it_is_closed_with_the_protocols_own_words(self, server: RedisServer, url: str) -> None:
        with FakeSMTP(shared=url) as one:
            server.stop()
            one.wait_for(lambda journal: any(mark.kind == "lost" for mark in journal.marks), timeout=20)
            with closing(Line(one.port)) as line:
                assert line.greeting.startswith("421 4.3.2")
            assert one.journal.exchanges[-1].fault == "lost"

    def test_a_redis_that_does_not_answer_holds_clients_up_for_its_time_out_once(
        self, server: RedisServer, url: str
    ) -> None:
        assert server.process is not None
        with two(f"{url}&socket_timeout=0.2", loads(CAP)) as (one, other):
            server.process.send_signal(signal.SIGSTOP)
            try:
                assert not admits(one.port)
                assert [mark.kind for mark in one.journal.marks] == ["play", "lost"]
                assert "Timeout" in one.journal.marks[-1].text
            finally:
                server.process.send_signal(signal.SIGCONT)
            for fake in (one, other):
                fake.wait_for(lambda journal: journal.marks[-1].kind != "lost", timeout=20)
            eventually(lambda: admits(one.port), "it is open again")

    def test_one_that_does_not_answer_is_not_waited_for_again_at_the_end(
        self, server: RedisServer, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert server.process is not None
        one = FakeSMTP(loads(CAP), shared=f"{url}&socket_timeout=0.2&lease=1s")
        one.start()
        server.process.send_signal(signal.SIGSTOP)
        try:
            one.wait_for(lambda journal: journal.marks[-1].kind == "lost", timeout=20)
            asked: list[str] = []
            sharing: Any = one._bridge.sharing

            def call(operation: str, _given: object) -> None:
                # The thread that hears the others may be about to look, or to say that it has carried out what it had heard.
                if threading.current_thread().name != "notnow-hear":
                    asked.append(operation)
                raise redis.TimeoutError

            monkeypatch.setattr(sharing.replica.link, "call", call)
            monkeypatch.setattr(sharing.heart, "_ship", lambda: asked.append("ship"))
            one.stop()
            assert asked == []
        finally:
            server.process.send_signal(signal.SIGCONT)
        assert [one.getMessage().partition(" (")[0][-7:] for one in caplog.records] == ["is lost"]

    def test_ftp_and_http_are_closed_in_their_own_way(self, server: RedisServer, url: str) -> None:
        with FakeFTP(shared=url) as ftp, FakeHTTP(shared=url) as http:
            server.stop()
            for fake in (ftp, http):
                fake.wait_for(lambda journal: any(mark.kind == "lost" for mark in journal.marks), timeout=20)
            with closing(Line(ftp.port)) as line:
                assert line.greeting.startswith("421 ")
            with socket.create_connection(("127.0.0.1", http.port), timeout=20) as sock:
                assert sock.recv(100) == b""

    def test_phases_go_on_without_it(self, server: RedisServer, url: str) -> None:
        scenario = loads(document(phase(lasts="1s", name="1"), phase(name="2")))
        with FakeSMTP(scenario, shared=f"{url}&speed=1000&when-lost=open") as one:
            server.stop()
            one.wait_for(lambda journal: any(mark.kind == "lost" for mark in journal.marks), timeout=20)
            assert admits(one.port)
            one.wait_for(lambda journal: one.phase == "2", timeout=20)


class TestErrors:
    """Each names the thing, the value, what is allowed, and what to do."""

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("http://x", r"shared is 'http://x'; allowed: redis://\[USER"),
            (7, "shared is 7; allowed: redis://"),
            ("redis://h:x", "shared is 'redis://h:x'; allowed: redis://"),
            ("http://me:secret@x", "shared is 'http://…@x'"),
            ("redis://h/zero", "shared: the database is 'zero'; allowed: a number"),
            ("redis://h?nam=x", "shared: there is no word 'nam'.*did you mean 'name'"),
            ("redis://h?name=a b", "shared: name is 'a b'; allowed: letters"),
            ("redis://h?lease=1ms", "shared: lease is '1ms'; allowed: 500ms to 1h"),
            ("redis://h?when-lost=shut", "shared: there is no when-lost 'shut'; allowed: closed, open"),
            ("redis://h?speed=fast", "shared: speed is 'fast'; allowed: a number"),
            ("redis://h?db=x", "shared: db is 'x'; allowed: a number"),
            (
                "redis://h?socket_timeout=0",
                "shared: socket_timeout is '0'; allowed: seconds, more than 0 and at most 60",
            ),
            ("rediss://h?ssl_ca_certs=/none", "shared: ssl_ca_certs is '/none'; allowed: a file"),
            ("rediss://h?ssl_cert_reqs=no", "shared: ssl_cert_reqs is 'no'; allowed: required, optional, none"),
            (
                "redis://h?ssl_cert_reqs=none",
                "shared: ssl_cert_reqs is for TLS, and this is redis://; allowed: rediss://",
            ),
        ],
    )
    def test_the_url(self, given: Any, said: str) -> None:
        with pytest.raises(ScenarioError, match=said):
            FakeSMTP(shared=given)

    def test_a_clock_of_its_own(self) -> None:
        with pytest.raises(ScenarioError, match="shared is given, and a ManualClock as the clock; allowed: none, or"):
            FakeSMTP(shared="redis://h", clock=ManualClock())

    def test_no_redis_py(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("notnow.shared.address.find_spec", lambda name: None)
        with pytest.raises(
            ScenarioError, match=r"needs redis-py, which is not installed; pip install 'notnow\[shared\]'"
        ):
            FakeSMTP(shared="redis://h")

    def test_no_redis(self) -> None:
        port = free_port()
        with pytest.raises(
            StartError, match=f"no Redis at redis://127.0.0.1:{port}.*start one, for example redis-server"
        ):
            FakeSMTP(shared=f"redis://127.0.0.1:{port}").start()

    def test_something_else_than_redis(self) -> None:
        with FakeSMTP() as other, pytest.raises(StartError, match="what answers at .* is no Redis"):
            FakeSMTP(shared=f"redis://127.0.0.1:{other.port}").start()

    def test_a_password(self, tmp_path: Path) -> None:
        with running(tmp_path, "--requirepass", "secret") as server:
            with pytest.raises(
                StartError, match="does not let us in .*; allowed: redis://USER:PASSWORD@HOST:PORT"
            ) as none:
                FakeSMTP(shared=server.url).start()
            with pytest.raises(StartError, match="does not let us in") as wrong:
                FakeSMTP(shared=server.url.replace("//", "//:wrong@")).start()
            assert "wrong@" not in f"{none.value}{wrong.value}"
            with FakeSMTP(shared=server.url.replace("//", "//:secret@")) as fake:
                assert admits(fake.port)

    def test_an_old_redis(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("notnow.shared.link.OLDEST", (99, 0))
        with pytest.raises(StartError, match=r"is version \d+\.\d+\.\d+; allowed: 99.0 or later"):
            FakeSMTP(shared=server.url).start()

    def test_another_scenario_in_the_same_service(self, url: str) -> None:
        with FakeSMTP(loads(CAP), shared=url) as one:
            for scenario, theirs in (("smtp/healthy", "'scenario'"), (loads(f"{CAP}# other\n"), "of another version")):
                with pytest.raises(StartError, match=f"the service 'service' at .* plays .*{theirs}.*--shared-name"):
                    FakeSMTP(scenario, shared=url).start()
            assert admits(one.port)

    def test_another_speed(self, url: str) -> None:
        with (
            FakeSMTP(shared=url),
            pytest.raises(StartError, match="runs at a speed of 1, and this fake at 60; allowed"),
        ):
            FakeSMTP(shared=f"{url}&speed=60").start()

    def test_without_a_name_different_scenarios_are_different_services(self, server: RedisServer) -> None:
        once = loads(document(rule("connect", after=1, reply=BYE)))
        with FakeSMTP(once, shared=server.url) as one, FakeSMTP(loads(CAP), shared=server.url) as other:
            assert [admits(one.port), admits(other.port), admits(one.port)] == [True, True, False]

    def test_why_a_rule_fired_is_not_known(self, url: str) -> None:
        with FakeSMTP(loads(CAP), shared=url) as one:
            assert admits(one.port)
            with pytest.raises(ValueError, match="a shared service keeps no record"):
                one.explain(one.journal.exchanges[0])
            assert one.fired["phase[0].rule[0]"].times == 0
