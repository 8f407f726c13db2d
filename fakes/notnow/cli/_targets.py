"""From command-line arguments to servers: `primary=smtp/overload --set primary.outage=5s --port primary=2525`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from notnow import protocols
from notnow.errors import Problem, ScenarioError, unknown

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

T = TypeVar("T")
_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]*)=(.+)", re.DOTALL)
_OPTIONS = frozenset({"host", "port", "seed", "speed"})  # options that users may mistake for knobs
DEFAULT_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Target:
    """A server to start: its name, its scenario with the knobs, its address, and further options of the fake.

    `app` names the app among the options, as MODULE:ATTRIBUTE.
    """

    name: str
    scenario: Scenario
    host: str
    port: int
    options: Mapping[str, Any] = field(default_factory=dict)
    app: str | None = None


def resolve(
    names: Sequence[str],
    *,
    search_paths: Sequence[str] = (),
    knobs: Sequence[str] = (),
    hosts: Sequence[str] = (),
    ports: Sequence[str] = (),
    own: Mapping[str, Sequence[str]] | None = None,
) -> list[Target]:
    """The servers in the order of the arguments; there may be none.

    Raises click.UsageError for arguments that cannot be parsed, ScenarioError for an invalid scenario, server, knob
    or value.
    """
    scenarios = _load(names, search_paths)
    given = _knobs(knobs, scenarios)
    host = _placed("--host", hosts, scenarios, str)
    port = _placed("--port", ports, scenarios, _port)
    options = _own(own or {}, scenarios)
    first = next(iter(scenarios), None)
    return [
        Target(
            name,
            scenario.with_knobs(**given[name]),
            host.get(name, host.get("", DEFAULT_HOST)),
            port.get(name, port.get("", 0) if name == first else 0),
            {option: _READ.get(option, str)(text) for option, text in options[name].items()},
            options[name].get("app"),
        )
        for name, scenario in scenarios.items()
    ]


def _load(names: Sequence[str], search_paths: Sequence[str]) -> dict[str, Scenario]:
    from notnow.language import catalogue

    pairs = [(match[1], match[2]) if (match := _NAMED.fullmatch(name)) else ("", name) for name in names]
    given = {server for server, _ in pairs if server}
    found: dict[str, Scenario] = {}
    for server, name in pairs:
        if name.endswith("="):
            raise click.UsageError(f"{name!r} is a server without a scenario: name one, as in {name}smtp/overload")
        scenario = catalogue.scenario(name, search_paths=search_paths)
        if server in found:
            raise click.UsageError(f"two servers are called {server!r}; each needs a name of its own")
        found[server or _unnamed(scenario.protocol, found.keys() | given)] = scenario
    return found


def _unnamed(protocol: str, taken: Iterable[str]) -> str:
    """smtp, smtp2, smtp3, …"""
    taken = set(taken)
    number = next(n for n in range(1, len(taken) + 2) if _numbered(protocol, n) not in taken)
    return _numbered(protocol, number)


def _numbered(protocol: str, n: int) -> str:
    return protocol if n == 1 else f"{protocol}{n}"


def _knobs(texts: Sequence[str], scenarios: Mapping[str, Scenario]) -> dict[str, dict[str, str]]:
    """The knobs of each server."""
    found: dict[str, dict[str, str]] = {name: {} for name in scenarios}
    for text in texts:
        key, equals, value = text.partition("=")
        server, dot, knob = key.rpartition(".")
        if not equals or not knob:
            raise click.UsageError(f"--set takes KNOB=VALUE or SERVER.KNOB=VALUE, not {text!r}")
        if dot and server not in scenarios:
            raise ScenarioError([unknown("server", server, scenarios)])
        takers = [server] if dot else [n for n, scenario in scenarios.items() if knob in scenario.knobs]
        if not takers or any(knob not in scenarios[taker].knobs for taker in takers):
            raise ScenarioError([_no_knob(knob, [scenarios[n] for n in takers or scenarios])])
        for taker in takers:
            found[taker][knob] = value
    return found


def _no_knob(knob: str, scenarios: Sequence[Scenario]) -> Problem:
    if knob in _OPTIONS:
        return Problem(f"{knob!r} is an option, not a knob", allowed=f"--{knob} VALUE")
    where = ", ".join(dict.fromkeys(scenario.name for scenario in scenarios))
    return unknown("knob", knob, sorted({name for scenario in scenarios for name in scenario.knobs}), key=where)


def _placed(
    option: str, given: Sequence[str], scenarios: Mapping[str, Scenario], read: Callable[[str], T]
) -> dict[str, T]:
    """`VALUE` under "", `SERVER=VALUE` under the server's name."""
    found: dict[str, T] = {}
    for text in given:
        server, value = match.groups() if (match := _NAMED.fullmatch(text)) else ("", text)
        if server and server not in scenarios:
            raise ScenarioError([unknown("server", server, scenarios, key=option)])
        if server in found:
            raise click.UsageError(f"{option} is given twice{f' for {server}' if server else ''}")
        found[server] = read(value)
    return found


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise click.UsageError(f"--port is {text!r}; allowed: 0 (any free one) to 65535, or SERVER=PORT")
    return int(text)


def _own(given: Mapping[str, Sequence[str]], scenarios: Mapping[str, Scenario]) -> dict[str, dict[str, str]]:
    """The names of directories, apps and servers of the user's behind each server: one without a server is for all that take it."""
    found: dict[str, dict[str, str]] = {name: {} for name in scenarios}
    for option, texts in given.items():
        placed = _placed(f"--{option}", texts, scenarios, str)
        if "" in placed:
            placed = {**dict.fromkeys(_takers(option, scenarios), placed.pop("")), **placed}
        for server, value in placed.items():
            found[server][option] = value
    return found


def _takers(option: str, scenarios: Mapping[str, Scenario]) -> list[str]:
    from notnow.servers import takes

    takers = [name for name, scenario in scenarios.items() if takes(scenario.protocol, option)]
    if not takers:
        allowed = ", ".join(name for name in protocols.NAMES if takes(name, option))
        raise ScenarioError([Problem(f"--{option} is for none of these servers", allowed=f"servers of {allowed}")])
    return takers


def _app(text: str) -> Any:
    from notnow.cli import _app

    return _app.load(text)


_READ: Mapping[str, Callable[[str], Any]] = {"files": Path, "app": _app}
