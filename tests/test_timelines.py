"""The timeline as data: lanes, marks, waits, phases, and items with their tries."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from control_api import API, running
from notnow.control import timelines


@pytest.fixture(scope="module")
def started() -> Iterator[API]:
    with running() as api:
        yield api


@pytest.fixture
def api(started: API) -> Iterator[API]:
    yield started
    started.clear()


def attempt(server: dict[str, Any], name: str = "1@x") -> None:
    try:
        with smtplib.SMTP(server["host"], server["port"], timeout=10) as client:
            client.sendmail("a@x.test", ["b@x.test"], f"Message-ID: <{name}>\r\n\r\nhello\r\n")
    except smtplib.SMTPResponseException:
        pass


def test_without_a_server_it_is_empty(api: API) -> None:
    found = api.get("/v1/timeline")
    assert (found["group"], found["lanes"], found["items"]) == (None, [], [])


def test_a_retry_is_drawn_to_scale(api: API) -> None:
    server = api.start("smtp/overload", name="mail", speed=0, knobs={"outage": "1m"})
    api.post("/v1/clock/advance", by="10s")  # times count from the first connection, and not from the start
    for gap in ("20s", "70s", "0s"):
        attempt(server)
        api.post("/v1/clock/advance", by=gap)
    found = api.get("/v1/timeline")
    first, second, third = found["lanes"]
    assert (found["group"], found["zero"], found["span"], found["left_out"]) == ("mail", 10, 90, 0)
    assert [(lane["connection"], lane["start"]) for lane in found["lanes"]] == [(1, 0), (2, 20), (3, 90)]
    assert [[(m["at"], m["kind"]) for m in lane["marks"]] for lane in found["lanes"]] == [
        [(0, "421")], [(20, "421")], [(90, "done")],
    ]  # fmt: skip
    assert [(w["start"], w["end"], w["to"]) for w in (*first["waits"], *second["waits"])] == [
        (0, 20, second["index"]), (20, 90, third["index"]),
    ]  # fmt: skip
    assert [(p["at"], p["name"]) for p in found["phases"]] == [(50, "recovered")]
    (item,) = found["items"]
    assert (item["name"], item["state"]) == ("<1@x> to b@x.test", "delivered")
    assert [one["lane"] for one in item["tries"]] == [lane["index"] for lane in found["lanes"]]
    assert item["tries"][0]["ended"] == "connect: 421 4.3.2 All server ports are busy"
    assert item["tries"][2]["index"] == third["marks"][0]["index"]


def test_the_middle_of_many_connections_is_left_out(api: API) -> None:
    server = api.start("smtp/overload", name="mail")
    for _ in range(7):
        attempt(server)
    found = api.get("/v1/timeline", most=4)
    assert ([lane["connection"] for lane in found["lanes"]], found["left_out"]) == ([1, 2, 6, 7], 3)


def test_a_lane_has_a_bounded_number_of_marks(api: API) -> None:
    toml = 'summary = "x"\nprotocol = "smtp"\n[[phase]]\nname = "p"\n[[phase.rule]]\non = "noop"\nreply = "450 no"\n'
    server = api.start(toml=toml)
    with socket.create_connection((server["host"], server["port"]), timeout=10) as client:
        client.sendall(b"NOOP\r\n" * 250 + b"QUIT\r\n")
        while client.recv(65536):
            pass
    (lane,) = api.get("/v1/timeline")["lanes"]
    places = [mark["index"] for mark in lane["marks"]]
    assert len(places) == 200
    assert places[100] - places[99] == 51


def test_what_goes_wrong_comes_first_among_the_items(api: API) -> None:
    server = api.start("smtp/healthy")
    for name in ("1@x", "2@x", "2@x", "3@x"):
        attempt(server, name)
    items = api.get("/v1/timeline")["items"]
    assert [(item["name"][:5], item["state"]) for item in items] == [
        ("<2@x>", "duplicated"), ("<1@x>", "delivered"), ("<3@x>", "delivered"),
    ]  # fmt: skip


def test_items_beyond_a_bound_are_counted(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timelines, "ITEMS", 2)
    server = api.start("smtp/healthy")
    for number in range(5):
        attempt(server, f"{number}@x")
    found = api.get("/v1/timeline")
    assert (len(found["items"]), found["items_left_out"]) == (2, 3)


def test_each_group_has_its_own(api: API) -> None:
    one = api.start("smtp/overload", name="one", group="left")
    two = api.start("smtp/healthy", name="two", group="left")
    api.start("smtp/healthy", name="three")
    attempt(one)
    attempt(two)
    assert [lane["server"] for lane in api.get("/v1/timeline", group="left")["lanes"]] == ["one", "two"]
    assert api.get("/v1/timeline", group="three")["lanes"] == []
    refusal = api.refused("GET", "/v1/timeline?group=lift", 404)
    assert "did you mean 'left'?" in refusal
