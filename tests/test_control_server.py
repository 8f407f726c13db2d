"""What holds the control API up: bounds of connections, of silence and of deafness; errors of its own; the fakes meanwhile."""

from __future__ import annotations

import asyncio
import gc
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

import notnow
from cli_process import Notnow
from control_api import API, running
from notnow.control import api as calls
from notnow.control import events, guard, server
from notnow.control.fleet import Fleet
from notnow.language.catalogue import scenario
from raw_connection import holding
from smtp_client import Raw

ASKED = b"GET /v1/servers HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def api() -> Iterator[API]:
    with running() as api:
        yield api


def dial(api: API, data: bytes = b"") -> socket.socket:
    host, port = api.url.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)), timeout=20)
    sock.sendall(data)
    return sock


def ends(sock: socket.socket) -> bool:
    """Read to the end; true if it comes."""
    with sock:
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return False
    return True


def eventually(holds: Callable[[], bool]) -> bool:
    return any(holds() or time.sleep(0.02) for _ in range(500))


@pytest.mark.parametrize(
    "head", [b"", b"GET /v1/servers HTTP/1.1\r\nHost: 1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ASKED, b"\x16\x03\x01"]
)
def test_a_connection_that_says_nothing_more_is_closed(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """Half-open, in the middle of a head, of a preface of HTTP/2, after an answer, in a handshake of TLS."""
    monkeypatch.setattr(server, "IDLE", 0.2)
    with running() as api:
        assert ends(dial(api, head))


def test_a_head_that_comes_drop_by_drop_has_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE", 0.3)
    with running() as api, dial(api, b"GET / HTTP/1.1\r\n") as slow:
        with pytest.raises(OSError):
            for _ in range(200):
                slow.sendall(b"X: a\r\n")
                time.sleep(0.02)


def test_there_is_a_most_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with running() as api, ExitStack() as held:
        api.fleet.start(scenario("smtp/overload"), name="mx")
        for _ in range(5):
            held.enter_context(dial(api, ASKED)).recv(99)
        assert ends(dial(api))
        with Raw(api.fleet.get("mx").fake) as raw:  # the fakes have their own
            assert raw.reply().startswith("421")
        held.close()
        assert eventually(lambda: answers(api))


def answers(api: API) -> bool:
    try:
        return api.http.get("/v1/servers").is_success
    except httpx.HTTPError:
        return False


def test_a_thousand_streams_of_events(api: API) -> None:
    """A hundred are open, the others are told why not."""
    api.start("smtp/overload", name="mx")
    refused = 0
    with ExitStack() as held:
        for _ in range(1000):
            sock = dial(api, b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            held.callback(sock.close)
            said = sock.recv(4096)
            if said.startswith(b"HTTP/1.1 200"):
                continue
            while b"100 streams of events are open, and there may be no more" not in said:
                more = sock.recv(4096)
                assert more, said
                said += more
            refused += 1
            sock.close()
        assert (refused, events._streams) == (900, events.STREAMS)
        with Raw(api.fleet.get("mx").fake) as raw:
            assert raw.reply().startswith("421")
    assert eventually(lambda: events._streams == 0)


def test_a_caller_that_never_reads_its_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "WRITING", 0.2)
    monkeypatch.setattr(server, "CLOSING", 0.1)
    monkeypatch.setattr(server, "CONNECTIONS", 1)
    with running() as api:
        api.fleet.start(scenario("ftp/healthy"), name="disk", files={"big": "40MB"})
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, port = api.url.removeprefix("http://").split(":")
            deaf.connect((host, int(port)))
            deaf.sendall(b"GET /v1/servers/disk/files/big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert eventually(lambda: answers(api)), "its connection is still the only one there may be"


def test_an_error_of_our_own_is_told_on_the_terminal_and_not_to_the_caller(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("the secret of /etc/shadow")

    api.start(name="mx")
    monkeypatch.setattr(calls, "describe", fail)
    said = api.refused("GET", "/v1/servers/mx", 500)
    assert said == "notnow itself failed: RuntimeError; its terminal shows where"
    assert eventually(lambda: "RuntimeError: the secret of /etc/shadow" in caplog.text)
    assert "Traceback (most recent call last)" in caplog.text  # a log that nobody has configured goes to standard error
    monkeypatch.undo()
    assert api.get("/v1/servers/mx")["name"] == "mx"


def test_a_server_that_fails_as_it_stops_does_not_keep_the_others_alive(
    api: API, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stop = api.fleet.stop

    def fail(name: str) -> None:
        stop(name)
        if name == "first":
            raise RuntimeError("it failed")

    monkeypatch.setattr(api.fleet, "stop", fail)
    api.start(name="first", ttl=0)
    assert eventually(lambda: "RuntimeError: it failed" in caplog.text)
    api.start(name="second", ttl=0)
    assert eventually(lambda: not api.fleet.members())


@contextmanager
def attacked(api: API) -> Iterator[None]:
    """Garbage, long bodies, verdicts and streams, again and again, while the block runs."""
    over = threading.Event()
    bodies = itertools.cycle([b"{" * 1000, b"[" * 500_000, b'{"toml": "' + b"x" * 900_000 + b'"}', b"\xff" * 1000])

    def send() -> None:
        with httpx.Client(base_url=api.url, timeout=20, trust_env=False) as http:
            while not over.is_set():
                http.post("/v1/scenarios/check", content=next(bodies), headers={"content-type": "application/json"})
                http.get("/v1/verdict?format=html&server=mx")
                with dial(api, bytes(range(256))):
                    pass

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join(20)


def test_the_fakes_serve_while_the_api_is_attacked(api: API) -> None:
    api.start("smtp/overload", name="mx")
    with attacked(api):
        for _ in range(20):
            start = time.monotonic()
            with Raw(api.fleet.get("mx").fake) as raw:
                assert raw.reply().startswith("421")
            assert time.monotonic() - start < 2
    assert api.fleet.get("mx").fake.journal.count("connect") == 20


def test_on_an_address_that_others_reach_a_token_is_printed_once_and_asked_for() -> None:
    with Notnow("serve", "mx=smtp/overload", "--control", "0.0.0.0:0", "--json") as told:
        control = told.event()
        token, url = control["token"], control["url"].replace("0.0.0.0", "127.0.0.1")
        assert len(token) >= 32
        with httpx.Client(base_url=url, trust_env=False) as http:
            assert http.get("/v1/servers").status_code == 401
            assert http.get("/v1/servers", headers={"authorization": f"Bearer {token}"}).status_code == 200
            assert http.get(f"/?token={token}").status_code == 303
            assert http.get("/v1/nothing", params={"token": token}).status_code == 404  # let in by the cookie
        code, out, err = told.stop()
        assert (code, token in out, err) == (0, False, "")


def test_the_token_may_come_from_the_environment() -> None:
    with Notnow("serve", "--control", "0.0.0.0:0", "--json", NOTNOW_TOKEN="Chosen-by-the-user_1") as told:
        control = told.event()
        assert control["token"] is None  # its user knows it, and logs need not
        url = control["url"].replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/servers", trust_env=False).status_code == 401
        remote = notnow.connect(url, "Chosen-by-the-user_1")
        assert remote.start("smtp/overload").port


@pytest.mark.parametrize("token", ["short", "with a space in it", "a" * 201])
def test_a_token_that_does_not_fit_is_refused(token: str) -> None:
    with Notnow("serve", "--control", "0.0.0.0:0", NOTNOW_TOKEN=token) as told:
        code, out, err = told.end()
    assert (code, out) == (2, "")
    assert "NOTNOW_TOKEN does not fit; allowed: 16 to 200 letters, digits, - and _" in err


def test_a_port_that_is_taken_is_told_and_nothing_is_left_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for targets in (["mx=smtp/overload"], []):
            with Notnow("serve", *targets, "--control", str(port)) as told:
                code, out, err = told.end()
            assert (code, out) == (2, "")
            assert (
                err
                == f"Error: cannot listen on 127.0.0.1:{port}: the port is taken; choose another, or 0 for any free one\n"
            )


def test_a_server_that_cannot_start_ends_the_api_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with Notnow("serve", "mx=smtp/overload", "--port", f"mx={taken.getsockname()[1]}", "--control", "0") as told:
            code, _, err = told.end()
    assert (code, "the port is taken" in err) == (2, True)


def test_it_stops_with_streams_and_waits_open() -> None:
    with Fleet() as fleet, server.controlled(fleet, "127.0.0.1", 0) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as sock:
            sock.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert sock.recv(99).startswith(b"HTTP/1.1 200")
            start = time.monotonic()
            running.stop()
            assert time.monotonic() - start < 5
            assert ends(sock)
    assert events._streams == 0


@pytest.mark.parametrize("turns", range(8))
def test_it_stops_as_clients_come(turns: int) -> None:
    """So many turns of its loop after they have been accepted, nothing is left open (a warning is an error here)."""
    with Fleet() as fleet, server.controlled(fleet, "127.0.0.1", 0) as running, ExitStack() as held:
        with holding(running._loop):
            said = [
                b"",
                ASKED,
                ASKED[:20],
                b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                b"PRI * HTTP/2.0\r\n",
            ]
            port = running.port
            socks = [held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in said]
            for sock, data in zip(socks, said, strict=True):
                sock.sendall(data)
            socks[0].close()
            after(running._loop, turns, running._stop.set)
        running.stop()
        assert all(ends(sock) for sock in socks[1:])
    assert events._streams == 0
    gc.collect()


def after(loop: asyncio.AbstractEventLoop, turns: int, do: Callable[[], object]) -> None:
    """Do something in so many turns of a loop."""
    if turns == 0:
        do()
    else:
        loop.call_soon_threadsafe(after, loop, turns - 1, do)
