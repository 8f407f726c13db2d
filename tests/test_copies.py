"""Servers as something to keep: a pytest test, a script, a scenario file. `tests/test_page.py` runs some of them."""

from __future__ import annotations

import ast
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from control_api import API, running
from notnow.control.fleet import Fleet
from notnow.control.server import controlled
from notnow.language import catalogue
from notnow.language.loading import loads

NASTY = """summary = "a '\\"\\"\\" b \\\\"\nprotocol = "smtp"\n[params]\nword = "x" # a comment\n[[phase]]\nname = "p"
[[phase.rule]]\non = "connect"\nreply = \'\'\'421 {word} $(id) `id`\'\'\'\n"""


@pytest.fixture(scope="module")
def started() -> Iterator[API]:
    with running() as api:
        yield api


@pytest.fixture
def api(started: API) -> Iterator[API]:
    yield started
    started.clear()


def copied(api: API, format: str, **query: str) -> str:
    return str(api.get("/v1/copy", format=format, **query))


def test_a_test_of_a_scenario_of_the_catalogue(api: API) -> None:
    api.start("smtp/overload", knobs={"outage": "5s"}, seed=7)
    text = copied(api, "pytest")
    assert '@pytest.mark.notnow("smtp/overload", outage="5s", seed=7)' in text
    assert "fake_server.assert_conduct()" in text
    assert 'fake_server.assert_conduct("smtp.tries-again")' in copied(api, "pytest", rule="smtp.tries-again")
    assert "fake_server.assert_conduct()" in copied(api, "pytest", rule="expect.delivered")


def test_an_option_of_the_server_is_copied(api: API) -> None:
    api.start("smtp/overload", tls="implicit", seed=7)
    assert '@pytest.mark.notnow("smtp/overload", tls="implicit", seed=7)' in copied(api, "pytest")
    assert '"tls": "implicit"' in copied(api, "curl")


def test_a_test_of_several_servers(api: API, tmp_path: Path) -> None:
    api.start("smtp/overload", name="primary", group="g")
    api.start(toml=NASTY, name="my-backup", group="g")
    text = copied(api, "pytest", rule="smtp.next-host")
    assert '"primary": scenario("smtp/overload"),' in text
    assert 'first.assert_fell_back_to(servers["my-backup"])' in text
    (constant,) = [node for node in ast.parse(text).body if isinstance(node, ast.Assign) and _name(node) == "MY_BACKUP"]
    assert loads(ast.literal_eval(constant.value)).summary == 'a \'""" b \\'
    file = tmp_path / "test_copied.py"
    file.write_text(text, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(file)]
    done = subprocess.run(command, env={"PATH": "", "CLIENT": "true"}, capture_output=True, text=True, timeout=60)
    assert "AssertionError" in done.stdout  # it runs, and says that nobody has connected
    assert done.returncode == 1


def test_each_server_that_the_client_has_come_to_is_judged(api: API) -> None:
    servers = [api.start(f"{protocol}/overload", name=protocol, group="g") for protocol in ("smtp", "ftp", "http")]
    for server in servers[1:]:
        with socket.create_connection((server["host"], server["port"]), timeout=10) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            client.recv(999)
    assert re.findall(r'servers\["(\w+)"\]\.assert_conduct\(\)', copied(api, "pytest")) == ["ftp", "http"]
    assert 'servers["ftp"].assert_conduct("ftp.start-over")' in copied(api, "pytest", rule="ftp.start-over")
    assert 'servers["smtp"].assert_conduct("smtp.tries-again")' in copied(api, "pytest", rule="smtp.tries-again")


def _name(node: ast.Assign) -> str:
    return getattr(node.targets[0], "id", "")


def test_options_and_speed_are_copied(api: API, tmp_path: Path) -> None:
    api.start("ftp/healthy", users={"a": 'b"'}, files={"x.txt": "hello", "big": "3MB"}, speed=60)
    test, script = copied(api, "pytest"), copied(api, "curl")
    assert 'users={"a": "b\\""}, files={"x.txt": "hello", "big": "3MB"}, seed=' in test
    ast.parse(test)
    request = json.loads(next(line for line in script.splitlines() if line.startswith("{")))
    assert (request["users"], request["files"], request["speed"]) == ({"a": 'b"'}, {"x.txt": "hello", "big": "3MB"}, 60)
    api.clear()
    api.start(**request)
    assert api.get("/v1/servers/ftp/files/x.txt") == "hello"


@pytest.mark.parametrize("protocol", ["smtp", "ftp", "http"])
def test_scenarios_of_every_kind_can_be_copied(api: API, protocol: str) -> None:
    for name in catalogue.names(f"{protocol}/*")[::12]:
        server = api.start(name)
        ast.parse(copied(api, "pytest"))
        subprocess.run(["sh", "-n"], input=copied(api, "curl"), text=True, check=True)
        assert copied(api, "toml") == catalogue.scenario(name).text
        api.http.delete(f"/v1/servers/{server['name']}")


def test_knobs_that_were_set_are_the_defaults_of_the_file(api: API) -> None:
    api.start(toml=NASTY, knobs={"word": 'new "one"'})
    text = copied(api, "toml")
    assert 'word = "new \\"one\\"" # a comment' in text
    assert loads(text).knobs["word"] == 'new "one"'


def test_a_script_runs_nothing_that_a_scenario_says(api: API) -> None:
    api.start(toml=NASTY)
    text = copied(api, "curl")
    done = subprocess.run(
        ["sh"], input=text, env={"PATH": "/usr/bin:/bin", "CLIENT": "true"}, capture_output=True, text=True, timeout=60
    )
    assert "never connected" in done.stdout
    assert done.returncode == 3
    assert [server["name"] for server in api.get("/v1/servers")["servers"]] == ["smtp"]  # its own is stopped


@pytest.mark.parametrize("known", [True, False])
def test_a_script_takes_the_token_from_its_environment(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setattr("notnow.control.server.is_loopback", lambda _: False)  # as on an address of the network
    with Fleet() as fleet, controlled(fleet, "127.0.0.1", 0) as server:
        fleet.start(catalogue.scenario("smtp/overload"))
        text = httpx.get(f"{server.url}/v1/copy?format=curl", headers={"Authorization": f"Bearer {server.token}"}).text
        assert str(server.token) not in text
        env = {"PATH": "/usr/bin:/bin", "CLIENT": "true", **({"NOTNOW_TOKEN": str(server.token)} if known else {})}
        done = subprocess.run(["sh"], input=text, env=env, capture_output=True, text=True, timeout=60)
        assert ("never connected" in done.stdout, "the token is missing" in done.stdout) == (known, False)
        assert done.returncode == (3 if known else 22)
        assert len(fleet.members()) == 1


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ("format=toml", 422, "a scenario file is for one server; allowed: server=NAME, one of a, b"),
        ("server=a,c", 422, "these servers share no clock (g, c)"),
        ("server=a&rule=smtp.tries-agian", 422, "did you mean 'smtp.tries-again'?"),
        ("server=x", 404, "there is no server 'x'"),
        ("server=a&format=java", 422, "'java'"),
    ],
)  # fmt: skip
def test_what_cannot_be_copied(api: API, query: str, status: int, words: str) -> None:
    for name, group in (("a", "g"), ("b", "g"), ("c", "c")):
        api.start("smtp/overload", name=name, group=group)
    if query == "format=toml":
        api.http.delete("/v1/servers/c")
    assert words in api.refused("GET", f"/v1/copy?{query}", status)


def test_without_a_server_there_is_nothing_to_copy(api: API) -> None:
    assert "start one with POST /v1/servers" in api.refused("GET", "/v1/copy", 404)
