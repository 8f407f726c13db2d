"""Servers by name, in groups with a clock each: no HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notnow import ScenarioError, StartError, true_time
from notnow.control.feed import Feed
from notnow.control.fleet import Fleet, FullError, NameTakenError, NoSuchServerError
from notnow.language.catalogue import scenario
from smtp_client import Raw

HEALTHY = scenario("smtp/healthy")


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet(seed=7) as made:
        yield made


def greeting(fleet: Fleet, name: str) -> str:
    with Raw(fleet.get(name).fake) as raw:
        return raw.reply()[:3]


def test_servers_without_a_name_are_numbered(fleet: Fleet) -> None:
    for protocol in ("smtp", "smtp", "ftp", "smtp"):
        fleet.start(scenario(f"{protocol}/healthy"))
    assert [member.fake.name for member in fleet.members()] == ["smtp", "smtp2", "ftp", "smtp3"]
    fleet.stop("smtp2")
    assert fleet.start(HEALTHY).fake.name == "smtp2"


def test_a_name_is_taken_once(fleet: Fleet) -> None:
    fleet.start(HEALTHY, name="mx")
    with pytest.raises(NameTakenError, match="'mx' already"):
        fleet.start(HEALTHY, name="mx")
    fleet.stop("mx")
    assert fleet.start(HEALTHY, name="mx").fake.running


@pytest.mark.parametrize("name", ["", "1st", "a b", "../x", "a" * 65, "ä"])
def test_what_is_no_name(fleet: Fleet, name: str) -> None:
    with pytest.raises(ScenarioError, match="allowed: a letter, then"):
        fleet.start(HEALTHY, name=name)


def test_an_unknown_name_is_told_with_the_nearest(fleet: Fleet) -> None:
    fleet.start(HEALTHY, name="primary")
    for call in (fleet.get, fleet.stop, lambda name: fleet.play(name, HEALTHY), lambda name: fleet.advance(1, [name])):
        with pytest.raises(NoSuchServerError, match="did you mean 'primary'"):
            call("primry")


def test_every_clock_is_advanced_even_if_one_fails(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (fleet.start(HEALTHY, name=name, speed=0) for name in ("a", "b"))
    monkeypatch.setattr(first.clock, "advance_to", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fleet.advance("1h")
    assert second.clock.now() == 3600


def test_what_cannot_start_leaves_no_name_behind(fleet: Fleet) -> None:
    port = fleet.start(HEALTHY).fake.port
    with pytest.raises(StartError):
        fleet.start(HEALTHY, name="second", port=port)
    assert fleet.start(HEALTHY, name="second").fake.running


def test_there_is_a_most(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notnow.control.fleet.SERVERS", 1)
    fleet.start(HEALTHY)
    with pytest.raises(FullError, match="there may be no more; stop some"):
        fleet.start(HEALTHY)


def test_servers_have_clocks_of_their_own(fleet: Fleet) -> None:
    one, other = (fleet.start(scenario("smtp/overload", outage="1h"), speed=0) for _ in range(2))
    assert [greeting(fleet, name) for name in ("smtp", "smtp2")] == ["421", "421"]
    fleet.advance("2h", ["smtp"])
    assert [greeting(fleet, name) for name in ("smtp", "smtp2")] == ["220", "421"]
    assert (one.clock.now(), other.clock.now()) == (7200, 0)
    fleet.advance("2h")
    assert greeting(fleet, "smtp2") == "220"


def test_a_group_shares_a_clock(fleet: Fleet) -> None:
    first, second = (fleet.start(HEALTHY, group="pair", speed=0) for _ in range(2))
    alone = fleet.start(HEALTHY)
    assert first.clock is second.clock is not alone.clock
    assert {group: len(members) for group, members in fleet.groups().items()} == {"pair": 2, "smtp3": 1}
    fleet.advance("1h")
    assert first.clock.now() == 3600  # once, and not once a server
    with pytest.raises(ScenarioError, match="the clock of the group 'pair' runs at 0"):
        fleet.start(HEALTHY, group="pair", speed=2)


def test_everything_is_in_one_order_whatever_the_clock(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.start(HEALTHY)
    for name in ("smtp2", "smtp", "smtp2"):
        greeting(fleet, name)
    journals = [member.fake.journal for member in fleet.members()]
    order = sorted((x.index, x.connection.server) for journal in journals for x in journal)
    assert [server for _, server in order] == ["smtp2", "smtp", "smtp2"]
    assert len({index for index, _ in order}) == 3


def test_a_server_stops_when_its_time_is_over(fleet: Fleet) -> None:
    fake = fleet.start(HEALTHY, ttl=30).fake
    fleet.start(HEALTHY)
    now = true_time.monotonic()
    due = fleet.expire(now)
    assert due is not None
    assert now < due <= now + 30
    assert fleet.expire(due) is None
    assert not fake.running
    assert [member.fake.name for member in fleet.members()] == ["smtp2"]


def test_a_scenario_returns_when_the_time_of_another_is_over(fleet: Fleet) -> None:
    fleet.start(HEALTHY)
    fleet.play("smtp", scenario("smtp/overload"), ttl=30)
    fleet.play("smtp", scenario("smtp/overload", outage="1h"), ttl=60)  # what returns is what played before both
    assert greeting(fleet, "smtp") == "421"
    due = fleet.expire(true_time.monotonic() + 31)
    assert greeting(fleet, "smtp") == "421"
    assert due is not None
    assert fleet.expire(due) is None
    assert (greeting(fleet, "smtp"), fleet.get("smtp").fake.scenario.name) == ("220", "smtp/healthy")


def test_a_scenario_without_a_time_stays(fleet: Fleet) -> None:
    fleet.start(HEALTHY)
    fleet.play("smtp", scenario("smtp/overload"), ttl=30)
    fleet.play("smtp", scenario("smtp/overload"))
    assert fleet.expire(true_time.monotonic() + 100) is None
    assert greeting(fleet, "smtp") == "421"


def test_all_stop_at_the_end() -> None:
    with Fleet() as fleet:
        fakes = [fleet.start(HEALTHY).fake for _ in range(3)]
    assert [fake.running for fake in fakes] == [False, False, False]
    assert fleet.members() == []


def test_the_feed_has_servers_and_entries_and_leaves_out_the_oldest(fleet: Fleet) -> None:
    fleet.start(HEALTHY)
    greeting(fleet, "smtp")
    fleet.stop("smtp")
    events, left_out, last = fleet.feed.after(0, 1000)
    kinds = [event.as_dict()["event"] for event in events]
    assert (kinds[0], kinds[1], kinds[-1], left_out) == ("play", "started", "stopped", 0)
    assert "exchange" in kinds
    assert [event.number for event in events] == list(range(1, fleet.feed.last + 1))
    latest, left_out, _ = fleet.feed.after(1, 2)
    assert ([event.number for event in latest], left_out) == ([last - 1, last], last - 3)


def test_the_feed_of_some_servers_is_bounded_by_their_events_alone() -> None:
    feed = Feed()
    for number in range(20):
        feed.put_server("busy" if number % 5 else "calm", "told", {"number": number})
    events, left_out, last = feed.after(0, 3, {"calm"})
    assert ([event.number for event in events], left_out, last) == ([6, 11, 16], 1, 20)
    assert feed.after(16, 3, {"calm"}) == ([], 0, 20)
