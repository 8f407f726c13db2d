"""The stream of events: what it tells, how it goes on after a break, and its bounds."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from control_api import API, running
from notnow.control import events, guard
from notnow.control.feed import REMEMBERED, Event
from smtp_client import Raw


@pytest.fixture(scope="module")
def one_api() -> Iterator[API]:
    with running() as api:
        yield api


@pytest.fixture
def api(one_api: API) -> Iterator[API]:
    yield one_api
    one_api.clear()


class Reader:
    """Reads server-sent events."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines

    def next(self) -> tuple[int, str, Any]:
        """The id, the type and the data of the next event."""
        found: dict[str, str] = {}
        for line in self.lines:
            if not line and "data" in found:
                return int(found["id"]), found["event"], json.loads(found["data"])
            name, _, value = line.partition(": ")
            found[name] = value
        raise AssertionError("the stream has ended")

    def until(self, kind: str) -> list[tuple[int, str, Any]]:
        found = [self.next()]
        while found[-1][1] != kind:
            found.append(self.next())
        return found


@contextmanager
def stream(api: API, last: int | None = None, **query: Any) -> Iterator[Reader]:
    headers = {} if last is None else {"last-event-id": str(last)}
    with api.http.stream("GET", "/v1/events", params=query, headers=headers) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        yield Reader(answer.iter_lines())


def test_what_happens_is_told_as_it_happens(api: API) -> None:
    with stream(api) as reader:
        server = api.start("smtp/overload", name="mx")
        assert [kind for _, kind, _ in reader.until("started")] == ["play", "started"]
        with Raw(api.fleet.get("mx").fake) as raw:
            assert raw.reply().startswith("421")
            raw.until_end()
        _, _, told = reader.until("exchange")[-1]
        assert (told["server"], told["moment"], told["codes"], told["refused"]) == ("mx", "connect", [421], True)
        api.http.delete("/v1/servers/mx")
        _, _, stopped = reader.until("stopped")[-1]
        assert stopped["name"] == server["name"]


def test_a_reader_that_comes_back_gets_what_it_has_missed(api: API) -> None:
    before = api.fleet.feed.last
    api.start(name="first")
    with stream(api, after=before) as reader:
        last, _, _ = reader.until("started")[-1]
    api.start(name="second")
    for resumed in ({"last": last}, {"after": last}):
        with stream(api, **resumed) as reader:
            told = reader.until("started")
            assert told[-1][2]["name"] == "second"
            assert [number for number, _, _ in told] == [last + 1, last + 2]


@pytest.mark.parametrize("last", ["x", "-1", "9" * 30])
def test_an_id_that_is_none_of_ours_is_passed_over(api: API, last: Any) -> None:
    with stream(api, last) as reader:
        api.start(name="mx")
        assert reader.until("started")[-1][2]["name"] == "mx"


def test_only_some_servers(api: API) -> None:
    api.start(name="mx")
    with stream(api, server="mx") as reader:
        api.start(name="other")
        api.post("/v1/servers/mx/reset")
        api.put("/v1/servers/mx/scenario", scenario="smtp/overload")
        assert {entry["server"] for _, _, entry in reader.until("play")} == {"mx"}
    assert "there is no server 'nobody'" in api.refused("GET", "/v1/events?server=nobody", 404)


def test_a_busy_server_does_not_drive_out_the_events_of_a_calm_one(api: API) -> None:
    for name in ("calm", "busy"):
        api.start(name=name)
    before = api.fleet.feed.last
    api.fleet.feed.put_server("calm", "told", {"number": 1})
    for number in range(3 * events.MOST):
        api.fleet.feed.put_server("busy", "told", {"number": number})
    with stream(api, after=before, server="calm") as reader:
        assert reader.next()[2] == {"number": 1, "event": "told", "name": "calm"}


def test_more_than_a_reader_can_follow_is_counted(api: API) -> None:
    api.start(name="mx")
    feed = api.fleet.feed
    before = feed.last
    for number in range(REMEMBERED + 5):
        feed.put_server("mx", "told", {"number": number})
    with stream(api, after=before) as reader:
        _, kind, skipped = reader.next()
        told = [reader.next() for _ in range(events.MOST)]
    assert (kind, skipped["count"]) == ("skipped", REMEMBERED + 5 - events.MOST)
    assert told[-1][2]["number"] == REMEMBERED + 4


def test_an_exchange_that_goes_on_is_told_once_with_its_last_state(api: API) -> None:
    api.start(name="mx")
    with Raw(api.fleet.get("mx").fake).hello() as raw:
        raw.deliver()
    api.get("/v1/servers/mx/wait", message=1)
    with stream(api, server="mx", after=0) as reader:
        api.http.delete("/v1/servers/mx")
        told = [entry["index"] for _, kind, entry in reader.until("stopped") if kind == "exchange"]
    assert len(told) == len(set(told))


def test_of_the_states_of_an_exchange_in_one_look_the_last_is_told(api: API) -> None:
    api.start("smtp/overload", name="mx")
    with Raw(api.fleet.get("mx").fake) as raw:
        raw.reply()
    (exchange,) = api.fleet.get("mx").fake.journal.exchanges
    told = events._text([Event(1, exchange), Event(2, {"event": "told", "name": "mx"}), Event(3, exchange)], 0, 3)
    assert [line for line in told.splitlines() if line.startswith("id: ")] == ["id: 2", "id: 3"]


def test_a_stream_without_events_shows_that_it_lives(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT", 0.01)
    with stream(api) as reader:
        assert next(line for line in reader.lines if line.startswith(":")) == ": still here"


def test_there_is_a_most(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STREAMS", 1)
    with stream(api, after=0) as reader:
        api.start(name="mx")
        reader.next()
        assert "1 streams of events are open" in api.refused("GET", "/v1/events", 503)
    for _ in range(200):  # the first has ended: there is room for another
        if api.http.get("/v1/servers").is_success and events._streams == 0:
            break
    with stream(api, after=0) as reader:
        reader.next()


def test_a_reader_that_never_reads_is_dropped(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces that it leaves unread fill the buffers, and then its time is over; the others are served meanwhile."""
    monkeypatch.setattr(guard, "WRITING", 0.2)
    monkeypatch.setattr(events, "PACE", 0.001)
    api.start(name="mx")
    host, port = api.url.removeprefix("http://").split(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        big = {"words": "x" * 20_000}
        for _ in range(5000):
            api.fleet.feed.put_server("mx", "told", big)
            if api.http.get("/v1/servers").is_success and _ > 20 and events._streams == 0:
                break
        assert events._streams == 0
