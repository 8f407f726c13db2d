"""Four replicas, each a process of its own, and a real Redis: they are one service."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

import control_api
from cli_process import Notnow
from notnow import FakeSMTP
from notnow.cli import group
from notnow.cli._lines import server_lines
from notnow.control.fleet import Service
from notnow.shared.address import address
from redis_server import RedisServer, running
from shared_service import PATIENCE, Line, admits, eventually, lines, replicas

LEASE = 3.0

QUOTA = """
protocol = "smtp"
[[phase]]
name = "open"
until = { quit = 20 }
[[phase.rule]]
on = "mail"
over = 500
within = "24h"
reply = "452 4.5.3 enough for today"
[[phase]]
name = "closed"
[[phase.rule]]
on = "connect"
reply = "421 4.3.2 closed"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as found:
        yield found


def report(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(group, ["report", *words])
    return result.exit_code, result.output


def test_a_cap_a_lease_and_a_process_that_stood_still(server: RedisServer) -> None:
    url = f"{server.url}?socket_timeout=9&name=cap"
    options = ("--set", "cap=50", "--lease", f"{LEASE:g}s")
    with replicas(url, "smtp/too-many-connections", *options) as made:
        ports = [port for _, port in made]
        with lines(ports, 200) as found:
            assert Counter(line.admitted for line in found) == {True: 50, False: 150}

            # A process that stands still for longer than its lease loses its slots, and takes them again when it goes on.
            still, port = made[0]
            held = sum(line.admitted and line.sock.getpeername()[1] == port for line in found)
            still.process.send_signal(signal.SIGSTOP)
            taken: list[Line] = []
            eventually(lambda: len(taken) == held or _admitted(ports[1], taken), "its slots are free")
            assert not admits(ports[2])
            still.process.send_signal(signal.SIGCONT)
            assert not admits(port)
            for line in taken:
                line.close()
            eventually(lambda: admits(ports[1]) is False, "its connections count again")

            # A process that is killed is gone for good: its slots are free within its lease, and no others.
            dead, port = made[3]
            held = sum(line.admitted and line.sock.getpeername()[1] == port for line in found)
            assert held
            dead.process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            taken = []
            eventually(lambda: len(taken) == held or _admitted(ports[1], taken), "its slots are free")
            assert time.monotonic() - killed < LEASE + 10  # of which the machine may take ten
            assert not admits(ports[2])
            for line in taken:
                line.close()


def _admitted(port: int, taken: list[Line]) -> None:
    line = Line(port)
    (taken.append if line.admitted else Line.close)(line)


def test_a_quota_phases_and_one_journal(server: RedisServer, tmp_path: Path) -> None:
    scenario = tmp_path / "quota.toml"
    scenario.write_text(QUOTA)
    url = f"{server.url}?socket_timeout=9&name=quota"
    with replicas(url, str(scenario)) as made:
        ports = [port for _, port in made]
        with lines(ports, 20) as found:
            assert {line.ask("HELO client.test")[:3] for line in found} == {"250"}
            said = Counter(mail(line)[:3] for _ in range(30) for line in found)
            assert said == {"250": 500, "452": 100}
            assert {line.ask("QUIT")[:3] for line in found} == {"221"}
        assert [admits(port) for port in ports] == [False] * 4  # the 20th QUIT, wherever it was, has closed them all
        for process, _ in made:
            assert process.stop()[0] == 0
    code, text = report(url, "--json")
    told = json.loads(text)
    (journal,) = told["journals"].values()
    exchanges = [one for one in journal if one["event"] == "exchange"]
    assert [one["index"] for one in exchanges] == sorted(one["index"] for one in exchanges)
    assert Counter(one["moment"] for one in exchanges)["mail"] == 600
    assert Counter(one["reply"][:3] for one in exchanges if one["moment"] == "mail") == {"250": 500, "452": 100}
    assert Counter(one["phase"] for one in exchanges if one["moment"] == "connect") == {"open": 20, "closed": 4}
    assert len({one["connection"] for one in exchanges}) == 24
    assert code == told["exit"]
    assert report(url)[1].splitlines()[-1].startswith("notnow: ")


def mail(line: Line) -> str:
    reply = line.ask("MAIL FROM:<me@client.test>")
    line.ask("RSET")
    return reply


class TestReport:
    def test_a_service_that_is_not_there(self, server: RedisServer) -> None:
        code, text = report(f"{server.url}?socket_timeout=9&name=nobody")
        assert code == 2
        assert "no service 'nobody' has a journal in Redis at redis://127.0.0.1" in text

    def test_a_server_that_is_not_there(self, server: RedisServer) -> None:
        with replicas(f"{server.url}?socket_timeout=9&name=one", "mx=smtp/healthy", count=1) as ((_, port),):
            assert admits(port)
            eventually(lambda: "#1" in report(f"{server.url}?socket_timeout=9&name=one")[1], "its journal is in Redis")
        assert "there is no server 'mz'" in report(f"{server.url}?socket_timeout=9&name=one", "--server", "mz")[1]


def test_options_that_say_nothing_without_shared() -> None:
    for option in (["--shared-name", "x"], ["--lease", "3s"], ["--when-lost", "open"]):
        result = CliRunner().invoke(group, ["serve", "smtp/healthy", *option])
        assert result.exit_code == 2
        assert f"{option[0]} is given without --shared URL" in result.output


def test_serve_says_what_is_wrong_with_its_service(server: RedisServer) -> None:
    for words, said in (
        (["--shared", "http://x"], "--shared is 'http://x'; allowed: redis://"),
        (["--shared", "redis://127.0.0.1:1"], "shared: no Redis at redis://127.0.0.1:1"),
        (["--shared", server.url, "--lease", "soon"], "--shared: lease is 'soon'; allowed: 500ms to 1h, such as 10s"),
        (["--shared", server.url, "--shared-name", "a/b"], "--shared: name is 'a/b'; allowed: letters, digits"),
    ):
        result = CliRunner().invoke(group, ["serve", "smtp/healthy", *words])
        assert result.exit_code == 2, result.output
        assert said in result.output


def test_serve_says_of_which_service_it_is_a_replica(server: RedisServer) -> None:
    url = f"{server.url}?socket_timeout=9&name=said"
    with FakeSMTP(shared=url) as fake, FakeSMTP() as alone:
        assert (fake.service, alone.service) == (f"'said' at {server.url}", None)
        said = ["".join(text for text, _ in line) for line in server_lines([fake, alone])]
    assert [line for line in said if "replicas" in line] == [f"    one of  the replicas of 'said' at {server.url}"]


def test_servers_of_one_process_share_one_service_and_one_clock(server: RedisServer) -> None:
    url = f"{server.url}?socket_timeout=9&name=pair"
    names = ("primary=smtp/overload", "backup=smtp/too-many-connections", "--set", "cap=1")
    with replicas(url, *names, count=2) as made:  # type: ignore[misc]
        others = [int(process.until(event="listening")["port"]) for process, _ in made]
        with closing(Line(others[0])) as held:
            assert held.admitted
            assert [admits(port) for port in others] == [False, False]
        for process, _ in made:
            process.stop()
    told = json.loads(report(url, "--json")[1])
    assert {one["name"]: one["scenario"] for one in told["servers"]} == {
        "primary": "smtp/overload",
        "backup": "smtp/too-many-connections",
    }


def test_what_the_control_api_of_one_replica_does_holds_for_all(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        url = f"{server.url}?socket_timeout=9&name=controlled"
        command = ("serve", "mx=smtp/too-many-connections", "--set", "cap=1", "--json", "--shared", url)
        with Notnow(*command, "--control", "0") as one, Notnow(*command) as other:
            port = other.until(event="listening")["port"]
            api = httpx.Client(base_url=one.until(event="control")["url"], trust_env=False, timeout=20)
            with api, closing(Line(port)) as held:
                assert held.admitted
                assert api.put("/v1/servers/mx/scenario", json={"scenario": "smtp/overload"}).status_code == 200
                assert not admits(port)
                assert api.post("/v1/clock/advance", json={"by": "1h"}).status_code == 200
                assert admits(port)
                assert api.post("/v1/servers/mx/kick").status_code == 200
                assert held.hear().startswith("421")
                server.stop()
                refused = api.put("/v1/servers/mx/scenario", json={"scenario": "smtp/healthy"})
                assert refused.status_code == 503
                assert "so the other replicas cannot be told; try again when it is back" in refused.json()["detail"]


SHARED = {"name": "mx", "scenario": "smtp/too-many-connections", "knobs": {"cap": 1}, "shared": True}


def test_servers_that_tests_start_are_shared_if_they_ask_for_it(server: RedisServer) -> None:
    url = f"{server.url}?socket_timeout=9"
    command = ("serve", "--json", "--control", "0", "--shared", url, "--shared-name", "posted")
    with Notnow(*command) as one, Notnow(*command) as other, ExitStack() as stack:
        apis = [
            stack.enter_context(
                httpx.Client(base_url=process.until(event="control")["url"], trust_env=False, timeout=PATIENCE)
            )
            for process in (one, other)
        ]
        made = [api.post("/v1/servers", json=SHARED).json() for api in apis]
        assert [(each["shared"], each["group"]) for each in made] == [("posted", "main")] * 2
        with closing(Line(made[0]["port"])) as held:
            assert held.admitted
            assert [admits(each["port"]) for each in made] == [False, False]
        own = [api.post("/v1/servers", json={"scenario": "smtp/too-many-connections"}).json() for api in apis]
        assert [(each["name"], each["shared"]) for each in own] == [("smtp", None)] * 2

        # Another scenario in the same service is refused; one that all replicas have left begins anew.
        second = {**SHARED, "scenario": "smtp/overload", "knobs": {}}
        apis[0].delete("/v1/servers/mx")
        refused = apis[0].post("/v1/servers", json=second)
        assert refused.status_code in (409, 503)
        assert "plays 'smtp/too-many-connections', and this fake 'smtp/overload'" in refused.json()["detail"]
        apis[1].delete("/v1/servers/mx")
        begun = [api.post("/v1/servers", json=second).json() for api in apis]
        assert not any(admits(each["port"]) for each in begun)
        assert apis[0].post("/v1/clock/advance", json={"by": "1h", "servers": ["mx"]}).status_code == 200
        assert all(admits(each["port"]) for each in begun)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"shared": True}, "shared is true, and there is no name; allowed: the name that it has on all replicas"),
        ({**SHARED, "group": "mine"}, "shared is true, and group is 'mine'; allowed: no group, or 'main'"),
        ({**SHARED, "speed": 7}, "speed is 7, and the clock of the group 'main' runs at 1"),
    ],
)
def test_what_cannot_be_shared(server: RedisServer, body: dict[str, object], said: str) -> None:
    clock = address(f"{server.url}?name=no").new_clock()
    with control_api.running(service=Service(server.url, "no", clock, "main")) as api:
        refused = api.http.post("/v1/servers", json=body)
        assert refused.status_code == 422
        assert said in refused.json()["detail"]


def test_nothing_is_shared_without_a_service() -> None:
    with control_api.running() as api:
        refused = api.http.post("/v1/servers", json=SHARED)
        assert refused.status_code == 422
        assert (
            "this notnow is not a replica of a service; start it with `notnow serve --shared"
            in refused.json()["detail"]
        )


def test_a_service_without_servers_needs_a_name() -> None:
    result = CliRunner().invoke(group, ["serve", "--control", "0", "--shared", "redis://127.0.0.1:1/0"])
    assert result.exit_code == 2
    assert "--shared: no server is named, of which the service could have its name; --shared-name NAME" in result.output
