"""Replicas when something is wrong: with Redis, with its data, with another replica, or with time."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from click.testing import CliRunner

from notnow import FakeSMTP
from notnow.cli import group
from notnow.errors import LostError, ScenarioError, StartError
from notnow.language.loading import loads
from notnow.shared import heart, link, shipping
from notnow.shared.address import address, service
from notnow.shared.clock import SharedClock
from notnow.shared.naming import told_scenario
from playbook import BYE, document, phase, rule
from redis_server import RedisServer, free_port, running
from shared_service import Line, admits, eventually, two

CAP = loads(document(rule("connect", over=2, reply=BYE)))
PHASES = loads(document(phase(name="1"), phase(rule("connect", reply=BYE), name="2")))
HOUR = 3_600_000_000  # microseconds
names = (f"trouble-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as found:
        yield found


@pytest.fixture
def direct(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as found:
        yield found


@pytest.fixture
def name() -> str:
    return next(names)


@pytest.fixture
def url(server: RedisServer, name: str) -> str:
    return f"{server.url}?socket_timeout=9&name={name}"


def replica_of(fake: FakeSMTP) -> Any:
    return fake._bridge.sharing.replica  # type: ignore[attr-defined]


def acl_of_the_page() -> list[str]:
    """The rules of the command that the page shows."""
    text = (Path(__file__).parent / "examples" / "many-machines" / "acl.sh").read_text()
    words = shlex.split(text.replace("\\\n", ""))
    return words[words.index(">secret") + 1 :]


def lost(fake: FakeSMTP) -> list[str]:
    return [mark.text for mark in fake.journal.marks if mark.kind == "lost"]


class TestClocks:
    """Scenario time was 0 between two times, says Redis; a clock that says otherwise is set."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> SharedClock:
        self.mono = 1000.0
        monkeypatch.setattr("notnow.true_time.monotonic", lambda: self.mono)
        clock = SharedClock(speed=2)
        clock.align(900.0, 5.0)
        return clock

    def test_one_that_is_right_is_left_alone(self, clock: SharedClock) -> None:
        clock.correct(899.9, 900.1)
        assert clock.now() == 205

    def test_one_that_is_behind_goes_on_by_as_little_as_may_be(self, clock: SharedClock) -> None:
        clock.correct(800.0, 850.0)  # its machine was suspended
        assert clock.now() == 305
        clock.catch_up(7.0)
        assert clock.now() == 307

    def test_one_that_is_ahead_stands_still_and_never_goes_back(self, clock: SharedClock) -> None:
        assert clock.now() == 205
        clock.correct(910.0, 920.0)
        assert clock.now() == 205
        self.mono += 10
        assert clock.now() == 205
        self.mono += 1
        assert clock.now() == 207

    def test_what_is_advanced_while_it_stands_still_counts_in_full(self, clock: SharedClock) -> None:
        assert clock.now() == 205
        clock.correct(910.0, 920.0)
        clock.catch_up(25.0)
        assert clock.now() == 205
        clock.catch_up(125.0)
        assert clock.now() == 305

    def test_two_that_drift_apart_agree_after_each_beat_of_their_hearts(self, url: str) -> None:
        with two(url) as (one, other):
            one.clock._zero += 3600.0  # type: ignore[attr-defined]
            other.clock._zero -= 1800.0  # type: ignore[attr-defined]

            def agree() -> bool:
                for fake in (one, other):
                    replica_of(fake).renew()
                return abs(one.clock._zero - other.clock._zero) < 5  # type: ignore[attr-defined]

            eventually(agree, "they agree")

    def test_a_phase_that_has_ended_elsewhere_ends_on_a_machine_that_was_suspended(self, url: str) -> None:
        scenario = loads(document(phase(name="1", lasts="1h"), phase(rule("connect", reply=BYE), name="2")))
        with FakeSMTP(scenario, shared=url) as fake:
            assert admits(fake.port)

            def is_over() -> bool:
                fake.clock.correct(0.0, fake.clock._zero - 3600)  # type: ignore[attr-defined]
                return fake.phase == "2"  # it is not asked: its alarm rings

            eventually(is_over, "the phase ends")

    def test_scenario_time_goes_on_where_redis_sets_its_clock_back(
        self, url: str, name: str, direct: redis.Redis
    ) -> None:
        with FakeSMTP(shared=url) as fake:
            service = f"notnow:1:{{{name}}}:"
            with direct.pipeline() as until_then:  # its clock was an hour ahead
                until_then.hset(f"{service}clock", "seen", int(direct.hget(f"{service}clock", "seen")) + HOUR)  # type: ignore[arg-type]
                until_then.zincrby(f"{service}leases", HOUR // 1000, replica_of(fake).member)
                until_then.execute()
            eventually(
                lambda: replica_of(fake).renew() is not None and fake.clock.now() >= 3600, "as when it was last seen"
            )
            (lease,) = direct.zrange(f"{service}leases", 0, -1, withscores=True)
            seconds, _ = direct.time()
            assert lease[1] / 1000 - seconds < 20  # it ends when it should

    def test_servers_of_one_process_join_without_a_jump(self, url: str) -> None:
        clock = SharedClock()
        with FakeSMTP(shared=url, clock=clock):
            clock.correct(0.0, clock._zero - 3600)
            before = clock.now()
            with FakeSMTP(shared=url, clock=clock, name="other"):
                assert clock.now() >= before  # the truth is an hour behind it: it waits

    def test_a_clock_is_that_of_one_service(self, url: str, server: RedisServer) -> None:
        clock = SharedClock()
        other = f"{server.url}?socket_timeout=9&name={next(names)}"
        with (
            FakeSMTP(shared=url, clock=clock),
            pytest.raises(
                StartError, match="its clock is that of the service 'trouble-.*' .* already.*a clock for each"
            ),
        ):
            FakeSMTP(shared=other, clock=clock).start()


class TestLostData:
    """Redis answers, but not all that replicas have told it is there."""

    @pytest.mark.parametrize("key", ["clock", "leases", "smtp:state", None])
    def test_what_redis_has_lost_its_replicas_still_know(
        self, url: str, name: str, direct: redis.Redis, key: str | None
    ) -> None:
        with two(url, PHASES) as (one, other):
            one.next_phase()
            one.clock.advance("1h")
            if key is None:
                direct.flushdb()
            else:
                assert direct.delete(f"notnow:1:{{{name}}}:{key}") == 1
            assert [admits(fake.port) for fake in (one, other)] == [False, False]
            other.clock.advance("1h") if key == "clock" else None
            assert min(fake.clock.now() for fake in (one, other)) >= 3600
            one.play(CAP)
            assert [admits(fake.port) for fake in (one, other)] == [True, True]

    def test_a_replica_that_comes_as_redis_has_just_started_lets_those_that_know_more_come_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with running(tmp_path) as server:
            url = f"{server.url}?socket_timeout=9&name=restarted"
            with FakeSMTP(PHASES, shared=url) as old:
                old.next_phase()
                server.stop()
                monkeypatch.setattr(heart, "AGAIN", 1.0)
                old.wait_for(lambda _: lost(old), timeout=20)
                monkeypatch.setattr(link, "FRESH", 60)  # on a slow machine, too
                server.start()
                with FakeSMTP(PHASES, shared=url) as new:
                    assert new.phase == "2"
                    eventually(lambda: replica_of(old).lost is None, "the old one is back")
                    assert not any("start this replica again" in why for why in lost(old))

    def test_a_replica_that_comes_as_redis_has_lost_its_data_lets_those_that_know_more_come_first(
        self, url: str, direct: redis.Redis
    ) -> None:
        url += "&lease=4s"  # the next beat of the old one comes within a second
        with FakeSMTP(PHASES, shared=url) as old:
            old.next_phase()
            eventually(lambda: direct.pubsub_channels("*:replicas:*"), "it listens")
            direct.flushdb()
            with FakeSMTP(PHASES, shared=url) as new:
                assert new.phase == "2"
                assert not lost(old)

    def test_a_replica_that_hangs_is_not_waited_for_longer_than_its_lease(self, url: str, direct: redis.Redis) -> None:
        with FakeSMTP(PHASES, shared=f"{url}&lease=1s"):
            eventually(lambda: direct.pubsub_channels("*:replicas:*"), "it listens")
            (channel,) = direct.pubsub_channels("*:replicas:*")
        with direct.pubsub() as stopped:
            stopped.subscribe(channel)
            with FakeSMTP(PHASES, shared=f"{url}&lease=1s") as new:
                assert new.phase == "1"

    def test_a_redis_that_has_just_started_is_not_waited_for_long(
        self, url: str, direct: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        up = int(direct.info("server")["uptime_in_seconds"])  # type: ignore[index]
        monkeypatch.setattr(link, "FRESH", up + 2)
        with FakeSMTP(PHASES, shared=url) as fake:
            assert fake.phase == "1"
            assert int(direct.info("server")["uptime_in_seconds"]) >= up + 2  # type: ignore[index]

    def test_scripts_that_redis_has_forgotten(self, url: str, direct: redis.Redis) -> None:
        with two(url, CAP) as (one, other), closing(Line(one.port)), closing(Line(other.port)):
            direct.script_flush()
            assert not admits(one.port)
            assert not lost(one)

    def test_a_redis_that_throws_counts_away(self, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
        options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
        with running(tmp_path, *options) as server, FakeSMTP(shared=server.url):
            (said,) = [one.getMessage() for one in caplog.records if one.name == "notnow.shared"]
            assert "may throw counts away when its memory is full (maxmemory-policy is allkeys-lru)" in said


class TestWhatStays:
    def test_every_key_of_replicas_that_were_killed_goes_in_time(
        self, url: str, name: str, direct: redis.Redis
    ) -> None:
        rules = [
            rule("connect", over=5, reply=BYE),
            rule("mail", over=5, within="1h", reply=BYE),
            rule("mail", nth=9, reply=BYE, per="sender"),
        ]
        scenario = loads(document(phase(*rules, until={"noop": 9}, name="1"), phase()))
        with FakeSMTP(scenario, shared=f"{url}&lease=1h") as fake, closing(Line(fake.port)) as line:
            for command in ("HELO a", "NOOP", "MAIL FROM:<a@b.test>"):
                line.ask(command)
            keys = list(direct.scan_iter(f"notnow:*{name}*"))
            kinds = {key.partition("}:")[2].partition(":held")[0].partition(":w:")[0] for key in keys}
            assert kinds >= {"clock", "leases", "acks", "servers", "smtp:state", "smtp:counts", "smtp", "smtp:until"}
            assert kinds >= {"smtp:slots", "smtp:windows"}
            assert [key for key in keys if direct.ttl(key) < 3600] == []
        assert 3600 < direct.ttl(f"notnow:1:{{{name}}}:journal") <= 24 * 3600

    def test_a_server_lasts_as_long_as_one_of_its_replicas(self, url: str) -> None:
        once = loads(document(rule("connect", after=1, reply=BYE)))
        with FakeSMTP(shared=url, name="stays"):
            for scenario in (once, once, CAP):
                with FakeSMTP(scenario, shared=url, name="goes") as fake:
                    assert admits(fake.port)

    def test_a_replica_that_stops_gives_its_slots_back_in_one_call(self, url: str) -> None:
        with FakeSMTP(CAP, shared=url) as other:
            with FakeSMTP(CAP, shared=url) as one, closing(Line(one.port)), closing(Line(one.port)):
                assert not admits(other.port)
                asked, ask = [], replica_of(one).ask
                replica_of(one).ask = lambda operation, **given: (asked.append(operation), ask(operation, **given))[1]
                one.stop()
            assert [operation for operation in asked if operation != "state"] == [
                "let_go"
            ]  # a look at the news may come
            assert admits(other.port)


class TestOtherReplicas:
    def test_a_replica_whose_service_was_begun_anew_without_it(
        self, url: str, name: str, direct: redis.Redis, caplog: pytest.LogCaptureFixture
    ) -> None:
        with FakeSMTP(CAP, shared=url) as old:
            monkey = replica_of(old)
            knows, monkey.link.call = monkey.link.call, _raise
            direct.flushdb()  # it stood still, and all leases have ended
            with FakeSMTP(PHASES, shared=url) as new:
                monkey.link.call = knows
                old.wait_for(
                    lambda _: any("has begun: start this replica again" in why for why in lost(old)), timeout=20
                )
                with closing(Line(old.port)) as line:
                    assert line.greeting.startswith("421")
                assert admits(new.port)

    def test_a_replica_of_another_version_plays_what_this_one_cannot_read(self, url: str) -> None:
        with two(url, CAP) as (one, other):
            strange, healthy = told_scenario(CAP).replace("over", "overs"), told_scenario(loads(document(phase())))
            newer = replica_of(one)
            newer.link.call("play", {**newer._given, "digest": "0", "scenario": strange})
            other.wait_for(
                lambda _: any("this version of notnow cannot read" in why for why in lost(other)), timeout=20
            )
            assert not admits(other.port)
            newer.link.call("play", {**newer._given, "digest": "0", "scenario": healthy})
            other.wait_for(lambda _: other.journal.marks[-1].kind == "play", timeout=20)
            with closing(Line(one.port)), closing(Line(one.port)):
                eventually(lambda: admits(other.port), "it plays what it can read")

    def test_eight_that_come_at_once(self, url: str) -> None:
        with ExitStack() as stack:
            fakes = [FakeSMTP(CAP, shared=url) for _ in range(8)]
            threads = [threading.Thread(target=lambda fake=fake: stack.enter_context(fake)) for fake in fakes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            held = [Line(fake.port) for fake in fakes]
            assert sum(line.admitted for line in held) == 2
            for line in held:
                line.close()


def _raise(*_: object) -> None:
    raise redis.ConnectionError("away")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A Redis, and another that has its data: each in a folder of its own."""
    folders = tmp_path / "primary", tmp_path / "replica"
    for folder in folders:
        folder.mkdir()
    soon = "--repl-diskless-sync-delay", "0"
    with running(folders[0], *soon) as primary:
        with running(folders[1], *soon, "--replicaof", "127.0.0.1", str(primary.port)) as replica:
            yield primary, replica


class Name:
    """A port that leads to one Redis, and later to another, as a name does. Connections that are there stay where they are."""

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to
        self._socks: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self.leads_to))
                self._socks += client, server
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for sock in (self._listening, *self._socks):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


def told(work: Callable[[], object]) -> bool:
    """True if the other replicas could be told of it."""
    try:
        work()
    except LostError:
        return False
    return True


class TestFailover:
    """A Redis that becomes the replica of another amid a run."""

    def test_it_refuses_to_write_and_then_it_is_the_primary_again(
        self, pair: tuple[RedisServer, RedisServer], caplog: pytest.LogCaptureFixture
    ) -> None:
        primary, replica = pair
        with redis.Redis(port=primary.port) as one_of_them, redis.Redis(port=replica.port) as the_other:
            with two(f"{primary.url}?socket_timeout=9", CAP) as (one, other), closing(Line(one.port)):
                eventually(lambda: the_other.keys("notnow:*"), "the data are there")
                the_other.replicaof("NO", "ONE")
                one_of_them.replicaof("127.0.0.1", str(replica.port))
                with closing(Line(other.port)) as refused:
                    assert refused.greeting.startswith("421")
                eventually(lambda: lost(one) and lost(other), "both say so")
                assert all("read only replica" in why and "XADD" not in why for why in lost(one) + lost(other))
                one_of_them.replicaof("NO", "ONE")
                eventually(lambda: admits(other.port), "it is open again")
                eventually(lambda: replica_of(one).lost is None, "and so is the other")
                with closing(Line(other.port)) as second:
                    assert second.admitted
                    assert not admits(one.port)  # the slots of all that live count
                assert [len(lost(fake)) for fake in (one, other)] == [1, 1]
        assert sum("is lost" in one.getMessage() for one in caplog.records) == 2

    def test_its_name_leads_to_the_new_primary(self, pair: tuple[RedisServer, RedisServer]) -> None:
        primary, replica = pair
        with (
            redis.Redis(port=primary.port) as one_of_them,
            redis.Redis(port=replica.port) as the_other,
            closing(Name(primary.port)) as name,
        ):
            url = f"redis://127.0.0.1:{name.port}/0?socket_timeout=9"
            with two(url, CAP) as (one, other), closing(Line(one.port)):
                eventually(lambda: the_other.keys("notnow:*"), "the data are there")
                the_other.replicaof("NO", "ONE")
                one_of_them.replicaof("127.0.0.1", str(replica.port))
                name.leads_to = replica.port
                eventually(lambda: admits(other.port), "it follows the name")
                # A connection to the old one may be used late, and then each of them is lost for a moment once more.
                eventually(lambda: told(lambda: one.play(PHASES)), "the other follows it, too")
                eventually(lambda: other.scenario == PHASES, "both play it")
                eventually(lambda: told(one.next_phase), "it moves")
                eventually(lambda: not admits(other.port), "both move")
                primary.stop()
                eventually(lambda: told(lambda: other.play(CAP)), "they need the old one no more")
                eventually(lambda: admits(one.port), "and both play")

    def test_a_connection_that_was_in_use_does_not_lead_back(self, pair: tuple[RedisServer, RedisServer]) -> None:
        primary, replica = pair
        with closing(Name(primary.port)) as name:
            found = link.Link(address(f"redis://127.0.0.1:{name.port}/0?socket_timeout=9"), "smtp")
            with closing(found):
                pool = found.redis.connection_pool
                in_use = pool.get_connection()
                assert found.redis.info("server")["tcp_port"] == primary.port
                name.leads_to = replica.port
                found.knock()
                pool.release(in_use)
                assert found.redis.info("server")["tcp_port"] == replica.port


class TestWhatRedisSays:
    def test_a_replica_of_redis(self, url: str, direct: redis.Redis, tmp_path: Any) -> None:
        primary = str(direct.connection_pool.connection_kwargs["port"])
        with (
            running(tmp_path, "--replicaof", "127.0.0.1", primary) as replica,
            pytest.raises(StartError, match="refuses .*read only replica"),
        ):
            FakeSMTP(shared=f"{replica.url}?socket_timeout=9").start()

    def test_a_full_memory(self, tmp_path: Any) -> None:
        with running(tmp_path) as server, redis.Redis.from_url(server.url) as direct:
            with FakeSMTP(CAP, shared=f"{server.url}?socket_timeout=9") as fake:
                direct.config_set("maxmemory", 1)
                assert not admits(fake.port)
                assert "used memory > 'maxmemory'" in lost(fake)[0]
                direct.config_set("maxmemory", 0)
                eventually(lambda: admits(fake.port), "it is open again")

    def test_a_cluster(self, tmp_path: Any) -> None:
        with running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
            with pytest.raises(StartError, match="refuses .*[Hh]ash slot not served"):
                FakeSMTP(shared=server.url).start()
            with redis.Redis.from_url(server.url) as direct:
                direct.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                eventually(lambda: direct.cluster("INFO")["cluster_state"] == "ok", "the cluster of one node works")
            with two(server.url, CAP) as (one, other), closing(Line(one.port)), closing(Line(other.port)):
                assert not admits(one.port)

    def test_a_node_of_a_cluster_that_has_other_keys(self) -> None:
        from notnow.shared.address import address
        from notnow.shared.link import Link

        link = Link(address("redis://a:secret@h:1?name=mx"), "smtp")
        said = str(link.refusal(redis.exceptions.MovedError("3999 127.0.0.1:6381")))
        assert "127.0.0.1:6381 has the keys of 'mx'; notnow speaks to one Redis: name that node" in said
        assert "secret" not in said

    def test_tls(self, tmp_path: Any) -> None:
        authority, port = trustme.CA(), free_port()
        certificate = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
        files = ("--tls-cert-file", "own.pem", "--tls-key-file", "own.pem", "--tls-ca-cert-file", "ca.pem")
        with running(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *files):
            url = f"rediss://127.0.0.1:{port}/0?socket_timeout=9"
            with pytest.raises(StartError, match=r"is not to be trusted .*; allowed: ssl_ca_certs=FILE in the URL"):
                FakeSMTP(shared=url).start()
            with two(f"{url}&ssl_ca_certs={tmp_path / 'ca.pem'}", CAP) as (one, other), closing(Line(one.port)):
                assert [admits(other.port), admits(one.port)] == [True, True]

    def test_a_unix_socket(self, tmp_path: Any) -> None:
        path = tmp_path / "redis.sock"
        url = service(f"unix://{path}?db=1", {"mx": CAP}, {"lease": "5s"}, option="--shared")
        with running(tmp_path, "--unixsocket", str(path)), two(url, CAP) as (one, other):
            assert one.service is not None
            assert one.service.endswith(f" at unix://{path}")
            with closing(Line(one.port)), closing(Line(other.port)):
                assert not admits(one.port)
        with pytest.raises(StartError, match=f"no Redis at unix://{path} .*start one"):
            FakeSMTP(shared=url).start()

    def test_a_user_who_may_do_just_what_the_page_says(self, tmp_path: Any) -> None:
        with running(tmp_path) as server, redis.Redis.from_url(server.url) as direct:
            direct.execute_command("ACL", "SETUSER", "notnow", "on", ">secret", *acl_of_the_page())
            url = server.url.replace("//", "//notnow:secret@") + "?name=acl&socket_timeout=9"
            with two(url, CAP) as (one, other):
                assert admits(one.port)
                one.play(PHASES)
                other.next_phase()
                one.clock.advance("1h")
                one.kick()
                assert not admits(one.port)
            result = CliRunner().invoke(group, ["report", url])
            assert "421" in result.output
            assert not direct.acl_log()

    def test_a_user_who_may_not_ask_who_listens(self, server: RedisServer, direct: redis.Redis) -> None:
        """As the page had it before: such a replica does not wait for others whose Redis has lost its data."""
        rules = [rule for rule in acl_of_the_page() if "numsub" not in rule]
        direct.execute_command("ACL", "SETUSER", "earlier", "on", ">secret", *rules)
        url = server.url.replace("//", "//earlier:secret@") + "?name=acl-earlier&socket_timeout=9"
        with two(url, CAP) as (one, other):
            assert admits(one.port)
            assert admits(other.port)

    @pytest.mark.parametrize("password", ["top/secret", "top@secret/top", "top?secret"])
    def test_a_password_that_is_not_quoted_is_not_shown(self, password: str) -> None:
        with pytest.raises(ScenarioError) as error:
            FakeSMTP(shared=f"redis://:{password}@host:6379")
        assert not any(part in str(error.value) for part in ("top", "secret"))


class TestTheJournal:
    def test_a_stream_that_has_lost_its_beginning_proves_nothing(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(shipping, "EXCHANGES", 300)
        monkeypatch.setattr(shipping, "TELL_AGAIN", 50)
        with FakeSMTP(loads('protocol = "smtp"\n[[phase]]\n'), shared=url) as fake:
            for _ in range(90):
                with closing(Line(fake.port)) as line:
                    for command in ("HELO a", "MAIL FROM:<a@b.test>", "RSET", "QUIT"):
                        line.ask(command)
        result = CliRunner().invoke(group, ["report", url])
        assert "older exchanges were dropped" in result.output
        assert not result.exception or isinstance(result.exception, SystemExit)
