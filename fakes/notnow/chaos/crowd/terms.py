"""The terms of a storm: who comes, to what server, for how long. Checked before anything is simulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from notnow import protocols
from notnow.engine.capacity import Capacity
from notnow.engine.compiling import capacity_of
from notnow.errors import Problem, ScenarioError, shown
from notnow.language import catalogue
from notnow.language.grammar import Rule
from notnow.language.scenario import Scenario
from notnow.language.tables import replace
from notnow.units import DAY, HOUR, RATE_HELP, parse_percent, parse_rate, seconds, show, show_rate

MOST_CLIENTS = 1_000_000
MOST_ATTEMPTS = 2_000_000  # of one policy, after which the simulation ends
USUAL = {"capacity": "200/s", "refusal_cost": "10%"}  # of a server whose scenario says nothing of it
BUSY: Mapping[str, Any] = {"reply": {"reply": ("421 4.3.2 Too busy; try again later",)}, "status": {"status": 503}}
HORIZON, HORIZON_OF_ARRIVALS = DAY, HOUR

Time = float | str | timedelta


class Terms(Struct, frozen=True, kw_only=True):
    """Who comes to what server. Times are in seconds of scenario time.

    The server of the `scenario` has this `capacity`. Each of the `clients` has one item, which comes at a random time within the first `spread` seconds; or, with `arrivals`,
    so many items a second come, at random times and to random clients. A client waits `timeout` seconds for an answer.
    The simulation ends at the `horizon`, or when no item is left.
    """

    scenario: Scenario
    capacity: Capacity
    clients: int = 1000
    arrivals: float | None = None
    spread: float = 0.0
    timeout: float = 30.0
    horizon: float = HORIZON
    seed: int = 0
    most: int = MOST_ATTEMPTS


def terms(
    scenario: str | Path | Scenario,
    *,
    clients: int,
    capacity: float | str | None,
    refusal_cost: float | str | None,
    queue: int | None,
    outage: Time | None,
    arrivals: float | str | None,
    spread: Time,
    timeout: Time,
    horizon: Time | None,
    seed: int,
    knobs: dict[str, Any],
) -> Terms:
    """Terms of what a user gave. Raises ScenarioError."""
    found = scenario if isinstance(scenario, Scenario) else catalogue.scenario(str(scenario))
    if outage is not None:
        knobs = {**knobs, "outage": _outage(found, outage)}
    given = {"capacity": capacity, "refusal_cost": refusal_cost, "queue": queue}
    if found.server.capacity is not None:
        knobs = {**knobs, **_own(found, given)}
    found = found.with_knobs(**knobs)
    able = capacity_of(found)
    if able is None:
        able = _capacity(given)
        found = limited(found, able)
    rate = None if arrivals is None else _rate("arrivals", arrivals)
    end = _positive("horizon", horizon if horizon is not None else HORIZON if rate is None else HORIZON_OF_ARRIVALS)
    return Terms(
        scenario=found,
        capacity=able,
        clients=_whole("clients", clients, 1, MOST_CLIENTS),
        arrivals=rate,
        spread=_spread(spread, rate, end),
        timeout=_positive("timeout", timeout),
        horizon=end,
        seed=_whole("seed", seed),
    )


def limited(scenario: Scenario, capacity: Capacity) -> Scenario:
    """The same scenario with a server of this capacity, which refuses new work while its queue is full."""
    server = replace(scenario.server, capacity=capacity.rate, queue=capacity.queue, refusal_cost=capacity.refusal_cost)
    protocol = protocols.get(scenario.protocol)
    busy = Rule(on=(protocol.work,), busy=True, **BUSY[protocol.answer])
    more = () if capacity.queue is None else (busy,)
    phases = tuple(structs.replace(phase, rules=phase.rules + more) for phase in scenario.phases)
    return dataclasses.replace(scenario, server=server, phases=phases)


def _outage(scenario: Scenario, outage: Time) -> str:
    if "outage" not in scenario.knobs:
        knobs = ", ".join(scenario.knobs) or "none"
        raise _bad(
            "outage", f"{scenario.name} has no knob of this name", f"a scenario that has it, or its knobs: {knobs}"
        )
    return f"{_decimal(_time('outage', outage))}s"


def _decimal(number: float) -> str:
    """A number as knobs are written: without an exponent, and exact to a billionth."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def _own(scenario: Scenario, given: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a scenario whose server has a capacity of its own, for what was given."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in scenario.knobs:
            raise _bad(name, f"the server of {scenario.name} has its own", "to change it there, in [server]")
        match name:
            case "capacity":
                found[name] = show_rate(_rate(name, value))
            case "refusal_cost":
                found[name] = f"{_decimal(100 * _share(name, value))}%"
            case _:
                found[name] = _queue(value)
    return found


def _capacity(given: Mapping[str, Any]) -> Capacity:
    rate, cost = (given[name] if given[name] is not None else usual for name, usual in USUAL.items())
    return Capacity(_rate("capacity", rate), _share("refusal_cost", cost), _queue(given["queue"]))


def _rate(name: str, value: float | str) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    rate = parse_rate(f"{value:.9f}/s" if number else value)
    if rate is None:
        raise _bad(name, f"it is {shown(value)}", RATE_HELP)
    return rate


def _share(name: str, value: float | str) -> float:
    share = parse_percent(value) if isinstance(value, str) else value
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
        raise _bad(name, f"it is {shown(value)}", 'a share of the work for an item, such as "10%" or 0.1')
    return float(share)


def _spread(value: Time, arrivals: float | None, horizon: float) -> float:
    spread = _time("spread", value)
    if spread and arrivals is not None:
        raise _bad("spread", "with arrivals, items come all the time", "one of the two")
    if spread > horizon:
        raise _bad("spread", "items would come after the horizon", f"{show(horizon)} at most, or a later horizon")
    return spread


def _time(name: str, value: Time) -> float:
    try:
        found = seconds(value)
    except ValueError as error:
        raise _bad(name, str(error)) from None
    if found < 0:
        raise _bad(name, f"it is {shown(value)}", "0 or more")
    return found


def _positive(name: str, value: Time) -> float:
    found = _time(name, value)
    if not found:
        raise _bad(name, f"it is {shown(value)}", "more than 0")
    return found


def _whole(name: str, value: int, least: float = -inf, most: float = inf) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        bounds = "" if least == -inf else f" from {least} to {most}"
        raise _bad(name, f"it is {shown(value)}", f"a whole number{bounds}")
    return value


def _queue(value: int | None) -> int | None:
    return None if value is None else _whole("queue", value, 0, 10**9)


def _bad(name: str, found: str, allowed: str = "") -> ScenarioError:
    return ScenarioError([Problem(found, allowed=allowed, key=name)])
