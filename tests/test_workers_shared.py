"""Replicas of several workers each, and a real Redis: all workers of all replicas are one service."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from cli_process import Notnow
from notnow.cli import group
from notnow.engine.questions import Candidate, DecisionRequest, Question, slates_of
from notnow.errors import LostError
from notnow.language import catalogue
from notnow.language.conditions import Over
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.servers.workers.many import Many, many
from notnow.shared.encoding import encoded, pack
from playbook import document, phase, rule
from redis_server import RedisServer, running
from shared_service import PATIENCE, Line, admits, eventually, lines, replicas
from test_cli_workers import workers_of
from test_workers_protocols import Guest, played, refusing

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")

WORKERS = ("--workers", "2")
CAP = ("smtp/too-many-connections", "--set", "cap=50")
BUSY = "421 4.3.2 busy"
QUOTA = document(
    phase(rule("mail", over=500, within="24h", reply="452 4.5.3 enough"), name="open", until={"quit": 20}),
    phase(rule("connect", reply=BUSY), name="closed"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as found:
        yield found


def url(server: RedisServer, name: str, **more: str) -> str:
    return f"{server.url}?socket_timeout=9&name={name}" + "".join(f"&{key}={value}" for key, value in more.items())


def crew(url: str, scenario: str | Scenario, **options: Any) -> Many:
    found = catalogue.scenario(scenario) if isinstance(scenario, str) else scenario
    return many(found.protocol, 2)(found, seed=7, shared=url, **options)


@pytest.fixture(scope="module")
def pair(server: RedisServer) -> Iterator[tuple[Many, Many]]:
    """Two replicas for the tests that only play something on them. Their time stands still."""
    address = url(server, "pair", speed="0")
    with crew(address, "smtp/healthy") as one, crew(address, "smtp/healthy") as other:
        yield one, other


@pytest.fixture
def two(pair: tuple[Many, Many]) -> Iterator[tuple[Many, Many]]:
    yield pair
    pair[0].play("smtp/healthy")
    pair[0].kick()


def burst(fakes: tuple[Many, Many], count: int) -> Any:
    return lines([fake.port for fake in fakes], count)


# ---- processes -----------------------------------------------------------------------------------


def test_a_cap_is_that_of_all_workers_and_a_killed_replica_frees_its_slots(server: RedisServer) -> None:
    with replicas(url(server, "cap"), *CAP, *WORKERS, "--lease", "3s", count=2) as ((dead, port), (_, other)):
        with lines([port, other], 120) as found:
            assert Counter(line.admitted for line in found) == {True: 50, False: 70}
            held = sum(line.admitted and line.sock.getpeername()[1] == port for line in found)
            assert held
            dead.process.send_signal(signal.SIGKILL)
            with ExitStack() as stack:
                taken = 0
                while taken < held:
                    line = stack.enter_context(closing(Line(other)))
                    taken += line.admitted
                assert not admits(other)


def test_a_killed_worker_ends_its_replica_and_frees_its_slots(server: RedisServer) -> None:
    with replicas(url(server, "worker"), *CAP, *WORKERS, "--lease", "1h", count=2) as ((one, port), (_, other)):
        with lines([port], 50) as found:
            assert all(line.admitted for line in found)
            assert not admits(other)
            os.kill(workers_of(one)[0], signal.SIGKILL)
            code, _, errors = one.end()
            assert (code, "was killed by signal 9" in errors) == (1, True)
            with lines([other], 60) as later:
                assert Counter(line.admitted for line in later) == {True: 50, False: 10}


def mails(found: list[Line], each: int) -> Counter[str]:
    """The replies to so many MAIL commands on each line, which are sent at once, so that all workers decide together."""
    for line in found:
        line.sock.sendall(b"MAIL FROM:<me@client.test>\r\nRSET\r\n" * each)
    replies = [[line.hear()[:3] for _ in range(2 * each)] for line in found]
    return Counter(reply for one in replies for reply in one[::2])


def test_a_quota_a_phase_and_the_journal_are_those_of_all(server: RedisServer, tmp_path: Path) -> None:
    scenario = tmp_path / "quota.toml"
    scenario.write_text(QUOTA)
    with replicas(url(server, "quota"), str(scenario), *WORKERS, count=2) as made:
        ports = [port for _, port in made]
        with lines(ports, 20) as found:
            assert {line.ask("HELO client.test")[:3] for line in found} == {"250"}
            assert mails(found, 30) == {"250": 500, "452": 100}
            assert {line.ask("QUIT")[:3] for line in found} == {"221"}
        assert [admits(port) for port in ports * 4] == [
            False
        ] * 8  # the 20th QUIT, wherever it was, has closed them all
        for process, _ in made:
            assert process.stop()[::2] == (0, "")
    told = json.loads(CliRunner().invoke(group, ["report", url(server, "quota"), "--json"]).output)
    (journal,) = told["journals"].values()
    exchanges = [one for one in journal if one["event"] == "exchange"]
    assert [one["index"] for one in exchanges] == sorted({one["index"] for one in exchanges})
    assert Counter(one["moment"] for one in exchanges)["mail"] == 600
    assert Counter(one["phase"] for one in exchanges if one["moment"] == "connect") == {"open": 20, "closed": 8}
    assert len({one["connection"] for one in exchanges}) == 28


def test_a_replica_without_workers_is_one_of_them(server: RedisServer) -> None:
    with ExitStack() as stack:
        made = [
            stack.enter_context(replicas(url(server, "mixed"), *CAP, "--workers", workers, count=1)) for workers in "12"
        ]
        with lines([port for ((_, port),) in made], 80) as found:
            assert Counter(line.admitted for line in found) == {True: 50, False: 30}


def test_the_control_api_of_one_reaches_the_workers_of_all(server: RedisServer) -> None:
    command = ("serve", "mx=smtp/too-many-connections", "--set", "cap=1", "--json", *WORKERS, "--control", "0")
    with ExitStack() as stack:
        made = [stack.enter_context(Notnow(*command, "--shared", url(server, "api"))) for _ in range(2)]
        apis = [
            stack.enter_context(
                httpx.Client(base_url=process.until(event="control")["url"], trust_env=False, timeout=PATIENCE)
            )
            for process in made
        ]
        port = made[1].until(event="listening")["port"]
        held = stack.enter_context(closing(Line(port)))
        assert held.admitted
        assert apis[0].put("/v1/servers/mx/scenario", json={"scenario": "smtp/overload"}).status_code == 200
        assert not any(admits(port) for _ in range(8))
        assert apis[0].post("/v1/clock/advance", json={"by": "1h"}).status_code == 200
        assert all(admits(port) for _ in range(8))
        assert apis[0].post("/v1/servers/mx/kick").json() == {"kicked": 0}
        assert held.hear().startswith("421")
        assert len(apis[1].get("/v1/servers/mx/journal?moment=connect").json()["entries"]) == 17


# ---- what one replica does, all workers do -------------------------------------------------------


def test_a_phase_is_ended_for_all_by_its_last_event(two: tuple[Many, Many]) -> None:
    two[0].play(
        loads(
            document(phase(rule("noop", reply="250 old"), until={"connect": 16}), phase(rule("noop", reply="250 new")))
        )
    )
    with burst(two, 16) as found:
        assert {line.ask("NOOP") for line in found} == {"250 new"}
    assert [fake.phase for fake in two] == ["phase 2"] * 2


def test_a_phase_is_ended_for_all_by_hand_and_by_time(two: tuple[Many, Many]) -> None:
    two[1].play(
        loads(
            document(
                phase(name="1"),
                phase(rule(["enter", "noop"], reply="450 two"), lasts="5m", name="2"),
                phase(rule(["enter", "noop"], reply="450 three"), name="3"),
            )
        )
    )
    with burst(two, 16) as found:
        two[0].next_phase()
        assert {line.hear() for line in found} == {"450 two"}
        assert {line.ask("NOOP") for line in found} == {"450 two"}
        two[1].clock.advance("6m")
        assert {line.hear() for line in found} == {"450 three"}
        assert {line.ask("NOOP") for line in found} == {"450 three"}
    assert [fake.phase for fake in two] == ["3"] * 2


def test_live_connections_keep_their_slots_when_another_scenario_is_played(two: tuple[Many, Many]) -> None:
    with burst(two, 12) as held:
        assert all(line.admitted for line in held)
        two[0].play("smtp/too-many-connections", cap=15)
        with burst(two, 20) as more:
            assert Counter(line.admitted for line in more) == {True: 3, False: 17}
        for line in held:
            line.ask("QUIT")
        with burst(two, 20) as more:
            assert Counter(line.admitted for line in more) == {True: 15, False: 5}


def test_a_kick_cuts_off_the_clients_of_all_and_counts_those_here(two: tuple[Many, Many]) -> None:
    with burst(two, 16) as found:
        assert two[0].kick() == 8
        assert {line.hear()[:3] for line in found} == {"421"}


def test_a_clock_that_is_set_is_set_in_the_workers(two: tuple[Many, Many]) -> None:
    clock = two[0].clock
    assert two[0]._bridge.crew.living
    with burst(two, 4) as found:
        before = clock.origin  # type: ignore[attr-defined]
        clock.correct(before.zero + 1, before.zero + 1)  # type: ignore[attr-defined]
        assert clock.origin.zero == before.zero + 1  # type: ignore[attr-defined]
        two[0]._bridge.arrive()
        assert {line.ask("NOOP")[:3] for line in found} == {"250"}
        clock.correct(before.zero, before.zero)  # type: ignore[attr-defined]


def test_a_play_returns_when_every_worker_of_the_other_replica_has_taken_it_up(two: tuple[Many, Many]) -> None:
    worker = two[1]._bridge.crew.living[0]
    os.kill(worker.process.pid, signal.SIGSTOP)
    playing = threading.Thread(target=two[0].play, args=["smtp/overload"])
    playing.start()
    try:
        eventually(lambda: two[1].scenario.name == "smtp/overload", "the other replica plays it")
        playing.join(1)
        assert playing.is_alive()
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
        playing.join()


def test_a_question_about_an_earlier_play_has_no_answer_and_counts_nowhere(two: tuple[Many, Many]) -> None:
    bridge = two[0]._bridge
    for play, owners in ((bridge.plays - 1, []), (bridge.plays, ["a"])):
        question = partial(bridge.answer, "in_play", play, "acquire", [(("key",), "a")])
        assert bridge.runner.call(question) == (None, False)
        assert bridge.counts.owners == owners
    bridge.runner.call(lambda: bridge.counts.release_all("a"))


def test_what_several_workers_ask_at_once_is_asked_of_redis_in_one_go(
    two: tuple[Many, Many], monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge, key, cap = two[0]._bridge, ("in",), Candidate(0, (Over(1),), True)
    crew, counts = bridge.crew, bridge.counts
    ahead, answered = [], []
    monkeypatch.setattr(counts, "decide_ahead", lambda asked: ahead.append(len(asked)))
    monkeypatch.setattr(crew, "_answer", lambda worker, answer: answered.append((worker.place, answer)))

    def ask() -> None:
        for worker, owner in zip(crew.living, "ab", strict=True):
            request = DecisionRequest(counts.position, (owner,), Question(slates_of((), [(cap, key)]), [(key, 0)]))
            crew._take_soon(worker, [bridge.plays, "decide", pack(encoded(request)), 0.0])

    bridge.runner.call(ask)
    eventually(lambda: len(answered) == 2, "both have their answers")
    assert ahead == [2]
    assert [place for place, _ in answered] == [worker.place for worker in crew.living]
    assert [rule for _, (_, (rule, *_)) in answered] == [None, 0]
    bridge.runner.call(lambda: counts.release_all("a"))


# ---- without Redis -------------------------------------------------------------------------------


@pytest.mark.parametrize("when_lost", ["closed", "open"])
def test_without_redis_all_workers_are_as_chosen_until_it_is_back(tmp_path: Path, when_lost: str) -> None:
    with running(tmp_path) as server:
        address = url(server, "away", **{"when-lost": when_lost})
        with crew(address, catalogue.scenario("smtp/too-many-connections", cap=6)) as fake:
            with lines([fake.port], 10) as held:
                assert sum(line.admitted for line in held) == 6
                server.stop()
                admits(fake.port)  # this one finds out
                assert {admits(fake.port) for _ in range(8)} == {when_lost == "open"}
                with pytest.raises(LostError, match="so the other replicas cannot be told"):
                    fake.play("smtp/healthy")
                assert fake.scenario.name == "smtp/too-many-connections"
                server.start()
                fake.wait_for(lambda journal: any(mark.kind == "back" for mark in journal.marks), timeout=PATIENCE)
                assert {admits(fake.port) for _ in range(8)} == {False}  # the six are still in
            eventually(lambda: admits(fake.port), "their slots are free")
            fake.catch_up()
            assert [mark.kind for mark in fake.journal.marks] == ["play", "lost", "back"]


# ---- other protocols -----------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["ftp", "http"])
def test_a_cap_and_a_phase_are_those_of_all_over_every_protocol(server: RedisServer, protocol: str) -> None:
    address = url(server, protocol)
    capped = played(protocol, phase(refusing(over=5), until={"connect": 24}), phase(name="open"))
    with crew(address, capped) as one, crew(address, capped) as other, ExitStack() as stack:

        def let_in(count: int) -> int:
            guests = [stack.enter_context(closing(Guest((one, other)[n % 2]))) for n in range(count)]
            return sum(guest.let_in for guest in guests)

        assert let_in(23) == 5
        assert [fake.phase for fake in (one, other)] == ["phase 1"] * 2
        assert let_in(9) == 8
        assert [fake.phase for fake in (one, other)] == ["open"] * 2


def test_without_redis_a_server_without_rules_is_closed_too(tmp_path: Path) -> None:
    with running(tmp_path) as server, crew(url(server, "closed"), "smtp/healthy") as fake:
        assert admits(fake.port)
        server.stop()
        fake.wait_for(lambda journal: any(mark.kind == "lost" for mark in journal.marks), timeout=PATIENCE)
        fake._bridge.arrive()
        assert {admits(fake.port) for _ in range(8)} == {False}
