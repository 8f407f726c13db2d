"""Calls under way: what they are answered when their server or notnow stops, when their caller leaves, and in which turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from control_api import API, running
from notnow.conduct import reporting
from notnow.control import underway, verdicts, waiting
from notnow.control.fleet import Fleet
from notnow.control.server import controlled
from notnow.language.catalogue import scenario
from notnow.servers.base import runner
from test_control_server import dial, eventually

STOPPED = "the server was stopped while this call was under way"
WAIT = "/v1/servers/mx/wait?connect=1&timeout=60s"


@pytest.fixture
def api() -> Iterator[API]:
    with running() as api:
        yield api


@contextmanager
def calling(method: str, url: str, **options: Any) -> Iterator[Callable[[], httpx.Response]]:
    """A call in a thread of its own; what it gives returns the answer."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(httpx.request, method, url, timeout=20, trust_env=False, **options)
        yield lambda: answer.result(20)


def waits() -> bool:
    return eventually(lambda: waiting._waiting == 1)


@pytest.mark.parametrize("stop", ["DELETE", "ttl"])
def test_a_server_that_stops_ends_the_wait_for_it(api: API, stop: str) -> None:
    api.start(name="mx", ttl="1s" if stop == "ttl" else "10m")
    with calling("GET", api.url + WAIT) as answer:
        assert waits()
        if stop == "DELETE":
            assert api.http.delete("/v1/servers/mx").status_code == 204
        assert answer().status_code == 404
        assert answer().json()["detail"] == STOPPED
    assert waiting._waiting == 0


def test_a_wait_that_the_goodbye_fulfils_is_answered(api: API) -> None:
    server = api.start(name="mx")
    with calling("GET", f"{api.url}/v1/servers/mx/wait?connect=1&timeout=60s") as answer, ExitStack() as held:
        assert waits()
        from smtp_client import Raw

        held.enter_context(Raw(api.fleet.get("mx").fake))
        api.http.delete("/v1/servers/mx")
        assert answer().json()["seen"] == {"connect": 1}, server


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/servers/mx/kick", {}),
        ("POST", "/v1/servers/mx/next-phase", {}),
        ("GET", "/v1/servers/mx/snapshot", None),
        ("GET", "/v1/servers/mx/wait?connect=1", None),
    ],
)
def test_a_call_that_finds_its_server_stopped(api: API, method: str, path: str, body: object) -> None:
    api.start(name="mx")
    api.fleet.get("mx").fake.stop()  # another thread has come so far with DELETE
    assert api.refused(method, path, 404, json=body) == STOPPED


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/servers", None),
        ("GET", "/v1/servers/mx", None),
        ("GET", "/v1/verdict", None),
        ("GET", "/v1/timeline", None),
        ("GET", "/", None),
        ("GET", "/v1/servers/mx/rules", None),
        ("GET", "/v1/servers/mx/journal", None),
        ("POST", "/v1/clock/advance", {"by": "1m"}),
    ],
)
def test_a_call_that_needs_no_running_server_is_answered(api: API, method: str, path: str, body: object) -> None:
    api.start(name="mx", speed=0)
    api.start(name="other", speed=0)
    api.fleet.get("mx").fake.stop()
    assert api.http.request(method, path, json=body).status_code == 200
    assert api.fleet.get("other").clock.now() == (60 if body else 0)


@pytest.mark.parametrize("path", [WAIT, "/v1/verdict", "/v1/clock/advance", "/v1/events"])
def test_when_notnow_stops_calls_under_way_are_told(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        go_on.wait(20)

    monkeypatch.setattr(verdicts, "report_on", slow)
    monkeypatch.setattr(Fleet, "advance", slow)
    monkeypatch.setattr(waiting, "_read", lambda *given, real=waiting._read: begun.set() or real(*given))
    with ExitStack() as stack, Fleet() as fleet:
        with controlled(fleet, "127.0.0.1", 0) as server:
            fleet.start(scenario("smtp/healthy"), name="mx")
            method, body = ("POST", {"by": 1}) if "advance" in path else ("GET", None)
            answer = stack.enter_context(calling(method, server.url + path, json=body))
            stack.callback(go_on.set)
            assert path == "/v1/events" or begun.wait(20)
            if path == "/v1/events":
                from notnow.control import events

                assert eventually(lambda: events._streams == 1)
        if path == "/v1/events":
            assert answer().status_code == 200
        else:
            assert (answer().status_code, answer().json()["detail"]) == (
                503,
                "notnow stopped while this call was under way",
            )


def test_a_caller_that_leaves_waits_no_longer(api: API) -> None:
    api.start(name="mx")
    with dial(api, f"GET {WAIT} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()):
        assert waits()
    assert eventually(lambda: waiting._waiting == 0)


def test_clients_that_never_pause_hold_up_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTNOW_LOOP", "asyncio")  # uvloop comes to rest in other ways
    monkeypatch.setattr(reporting, "REST", 0.05)
    monkeypatch.setattr("notnow.control.api.REST", 0.05)
    monkeypatch.setattr(runner, "PATIENCE", 0.2)
    stop = threading.Event()
    with running() as api:
        api.start(name="mx", speed=0)
        loop = api.fleet.get("mx").fake._bridge.loop

        def spin() -> None:
            if not stop.is_set():
                loop.call_soon(spin)

        loop.call_soon_threadsafe(spin)
        for path in ("/v1/verdict", "/v1/servers/mx/snapshot"):
            assert api.http.get(path).status_code == 200
        said = api.refused("POST", "/v1/clock/advance", 503, json={"by": 1})
        assert said.startswith("clients keep the servers busy without a pause: the fakes' loop did not come to rest in")
        stop.set()


class TestLongCalls:
    @pytest.fixture
    def gate(self, monkeypatch: pytest.MonkeyPatch, api: API) -> Iterator[threading.Semaphore]:
        """Each release lets one verdict go on; `self.together` is how many came so far at the same time."""
        monkeypatch.setattr(underway, "LONG", 0)
        monkeypatch.setattr(underway, "QUEUE", 3)
        gate, self.running, self.together = threading.Semaphore(0), 0, 0
        real = verdicts.report_on

        def slow(*given: Any) -> Any:
            self.running += 1
            self.together = max(self.together, self.running)
            assert gate.acquire(timeout=20)
            self.running -= 1
            return real(*given)

        monkeypatch.setattr(verdicts, "report_on", slow)
        server = api.start("smtp/overload", name="mx")
        with httpx.Client() as _:
            from smtp_client import Raw

            with Raw(api.fleet.get("mx").fake) as raw:
                assert raw.reply().startswith("421"), server
        yield gate
        for _ in range(10):
            gate.release()

    def test_they_take_turns_and_the_rest_is_told_to_come_again(self, api: API, gate: threading.Semaphore) -> None:
        with ThreadPoolExecutor(10) as pool:
            asked = [
                pool.submit(httpx.get, f"{api.url}/v1/verdict?server=mx", timeout=20, trust_env=False) for _ in range(6)
            ]
            assert eventually(lambda: sum(one.done() for one in asked) == 2)
            refused = [one.result() for one in asked if one.done()]
            assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(503, "2")}
            assert "3 calls wait for their turn to read a long journal" in refused[0].json()["detail"]
            assert api.get("/v1/servers/mx")["exchanges"] == 1  # other calls do not wait
            for _ in range(4):
                gate.release()
            assert sorted(one.result(20).status_code for one in asked) == [200, 200, 200, 200, 503, 503]
        assert self.together == 1

    def test_a_short_journal_is_read_at_once(
        self, api: API, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(underway, "LONG", 1)
        with ThreadPoolExecutor(10) as pool:
            asked = [pool.submit(httpx.get, f"{api.url}/v1/verdict?server=mx", trust_env=False) for _ in range(6)]
            assert eventually(lambda: self.running == 6)
            for _ in range(6):
                gate.release()
            assert {one.result(20).status_code for one in asked} == {200}


def test_the_thread_of_an_abandoned_call_does_not_hold_the_turn(monkeypatch: pytest.MonkeyPatch, api: API) -> None:
    """A caller that does not wait any longer has its verdict all the same, and then it is the next one's turn."""
    monkeypatch.setattr(underway, "LONG", -1)
    api.start(name="mx")
    with pytest.raises(httpx.ReadTimeout):
        monkeypatch.setattr(
            verdicts, "report_on", lambda *given, real=verdicts.report_on: time.sleep(0.3) or real(*given)
        )
        httpx.get(f"{api.url}/v1/verdict", timeout=0.05, trust_env=False)
    assert api.get("/v1/verdict")["outcome"] == "never connected"
