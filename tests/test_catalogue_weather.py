"""`weather` of each protocol: storms with a mix of faults that the seed draws, and calm spells between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from notnow.engine.actions import AltSvc, Close, GoAway, Proceed, ResetStream, Respond, Send, Wait, Watch
from notnow.engine.events import Event
from playbook import Asked, Opened, Playing, playing

# A command that any fault of the mix may strike, and its faults in per cent, in the order of the rules: the first one
# that is drawn acts, so the later ones are somewhat rarer.
MIX: dict[str, tuple[str, dict[str, float]]] = {
    "smtp": ("rcpt", {"421": 25, "451": 10, "close": 5, "late": 10}),
    "ftp": ("transfer", {"cut": 25, "450": 10, "close": 5, "late": 10}),
    "http": ("request", {"503": 25, "421": 5, "refused": 5, "goaway": 5, "close": 5, "late": 10}),
}
CLIENTS = 600


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


def asked(protocol: str, conn: str) -> Event:
    moment, _ = MIX[protocol]
    if protocol == "ftp":
        return Asked(conn, "stor", command="STOR", path="/a.bin", mode="passive")
    facts: dict[str, Any] = {"method": "GET", "command": "GET", "path": "/"} if protocol == "http" else {}
    return Asked(conn, moment, 1 if protocol == "http" else 0, **facts)


def kind(steps: tuple[object, ...]) -> str:
    """What a script does, in a word of MIX."""
    for step in steps:
        match step:
            case Send(lines):
                return lines[0][:3]
            case Respond(response):
                return str(response.status)
            case ResetStream():
                return "refused"
            case GoAway():
                return "goaway"
            case Watch():
                return "cut"
            case Wait():
                return "late"
            case Close():
                return "close"
            case Proceed() | AltSvc():
                continue
    return "good"


def weather(play: Playing, protocol: str, seed: int, now: float = 0.0, **knobs: Any) -> list[str]:
    """What becomes of the command of each of many clients, at this time of scenario time."""
    book = play(f"{protocol}/weather", seed=seed, **knobs).start().at(now)
    found = []
    for n in range(CLIENTS):
        book >> Opened(f"{n}")
        closed = any(script.closes for script in book.scripts)
        book.skip()
        if not closed:
            book >> asked(protocol, f"{n}")
            found.append(kind(book.scripts[-1].steps))
            book.skip()
    return found


@pytest.mark.parametrize("protocol", MIX)
def test_the_same_seed_makes_the_same_weather(play: Playing, protocol: str) -> None:
    assert weather(play, protocol, 1) == weather(play, protocol, 1)
    assert weather(play, protocol, 1) != weather(play, protocol, 2)


@pytest.mark.parametrize("protocol", MIX)
def test_a_storm_mixes_its_faults_as_the_knobs_say(play: Playing, protocol: str) -> None:
    found = weather(play, protocol, 1)
    seen, left = Counter(found), 1.0
    for fault, chance in MIX[protocol][1].items():
        share = left * chance / 100
        left -= share
        assert abs(seen.pop(fault) / len(found) - share) < 0.04, fault
    assert seen.keys() == {"good"}


@pytest.mark.parametrize("protocol", MIX)
def test_calm_spells_are_calm_and_another_storm_follows(play: Playing, protocol: str) -> None:
    assert set(weather(play, protocol, 1, now=29.9)) > {"good"}
    assert set(weather(play, protocol, 1, now=30.0)) == {"good"}
    assert set(weather(play, protocol, 1, now=89.9)) == {"good"}
    assert set(weather(play, protocol, 1, now=90.0)) > {"good"}
    assert set(weather(play, protocol, 1, now=50.0, storm="1m")) > {"good"}


@pytest.mark.parametrize("protocol", MIX)
def test_a_fault_is_left_out_by_a_chance_of_nothing(play: Playing, protocol: str) -> None:
    assert "late" not in weather(play, protocol, 1, late="0%")
    assert "close" not in weather(play, protocol, 1, lost="0%")


def test_an_answer_may_be_cut(play: Playing) -> None:
    book = play("http/weather", cut="100%").start()
    book >> Opened("a") << Proceed()
    book >> Asked("a", "response", 1, method="GET", path="/") << Watch(10) << Proceed()
