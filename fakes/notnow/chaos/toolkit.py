"""Actions and probes for Chaos Toolkit: its experiments name this module and a function of it.

    {"type": "action", "name": "the mail server is overloaded",
     "provider": {"type": "python", "module": "notnow.chaos.toolkit", "func": "play",
                  "arguments": {"scenario": "smtp/overload", "knobs": {"outage": "1h"}, "url": "${notnow}"}}}

Every function takes `url` (and `token`, if the API asks for one): the control API that `notnow serve --control` prints. Without
`url` the servers run in the process of the experiment. `server` is the name of a server; it may be left out where there is one.
What goes wrong is raised as an exception, which fails the activity.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from notnow.conduct.pictures.report import Report
    from notnow.conduct.rules.rule import Level
    from notnow.language.scenario import Scenario

__all__ = ["advance", "amplification", "conduct", "deliveries", "kick", "play", "result", "stop"]

GROUP = "experiment"  # of the servers in this process: they share a clock
_log = logging.getLogger("chaostoolkit")


# ---- actions ---------------------------------------------------------------------------------------


def play(
    scenario: str,
    server: str = "",
    knobs: Mapping[str, Any] | None = None,
    port: int = 0,
    speed: float = 1.0,
    url: str = "",
    token: str = "",
) -> dict[str, Any]:
    """Play a scenario: on the server of this name, if it runs, else on a new one, which listens on `port` (0: any free one).

    `scenario` is a name of the catalogue or a .toml file. Without `server`, the name is that of the protocol. `speed` is that
    of a new server's clock. Gives `name`, `scenario`, `host`, `port` and `url` of the server.
    """
    servers, name, given = _servers(url, token), server or _scenario(scenario).protocol, dict(knobs or {})
    fake = servers.running().get(name)
    if fake is None:
        fake = servers.start(scenario, name, given, port, speed)
    else:
        fake.play(scenario, **given)
    return {"name": name, "scenario": scenario, "host": fake.host, "port": fake.port, "url": fake.url}


def advance(by: str | float, server: str = "", url: str = "", token: str = "") -> None:
    """Advance the clock of a server, or of all of them, by this much: "10m", or seconds."""
    servers = _servers(url, token)
    if server:
        _one(servers, server).clock.advance(by)
    else:
        servers.advance(by)


def kick(server: str = "", url: str = "", token: str = "") -> int:
    """Cut off every client that is connected; the number of them."""
    return int(_one(_servers(url, token), server).kick())


def stop(server: str = "", url: str = "", token: str = "") -> None:
    """Stop a server. In this process, all of them if no name is given."""
    servers = _servers(url, token)
    for name in [server] if server or url else list(servers.running()):
        servers.stop(name or _one(servers, "").name)


# ---- probes ----------------------------------------------------------------------------------------


def result(
    server: str = "", exit_code: int | None = None, count: int | None = None, url: str = "", token: str = ""
) -> str:
    """What became of the items of the clients since a scenario was last played, in the word of `notnow try`: "delivered",
    "lost", "duplicated", "reported", "refused", "unknown", "nothing asked", …

    `exit_code` is how the client ended, 0 for success, and `count` how many items it was given, if that is known.
    """
    word = _report(server, url, token, exit_code=exit_code, count=count).result
    assert word is not None, "a report on all rules has a result"
    return word.word


def deliveries(server: str = "", url: str = "", token: str = "") -> int:
    """How many items came through since a scenario was last played: messages to a recipient, files, requests."""
    found = _report(server, url, token).result
    assert found is not None, "a report on all rules has a result"
    return found.through


def amplification(server: str = "", url: str = "", token: str = "") -> float:
    """How many tries an item took on average since a scenario was last played; 0 if nothing was tried."""
    from notnow.conduct.reading.storm import storm

    return round(storm(_report(server, url, token).run).amplification or 0.0, 2)


def conduct(
    server: str = "",
    level: Level = "should",
    exit_code: int | None = None,
    count: int | None = None,
    url: str = "",
    token: str = "",
) -> str:
    """How the clients behaved since a scenario was last played, in the words of `notnow try`: "well behaved", "not well
    behaved", "nothing tested", "inconclusive", …

    `level` is that of the least binding rule whose breach counts. The broken rules are in the log of the experiment.
    """
    report = _report(server, url, token, level, exit_code, count)
    for one in report.offences:
        _log.warning("%s (%s): %s", one.rule.id, one.rule.level, one.finding.why)
    return report.outcome


# ---- where the servers are -------------------------------------------------------------------------


class Servers(Protocol):
    """The servers of an experiment, here or behind a control API."""

    def running(self) -> Mapping[str, Any]: ...
    def start(self, scenario: str, name: str, knobs: Mapping[str, Any], port: int, speed: float) -> Any: ...
    def advance(self, by: str | float) -> None: ...
    def stop(self, name: str) -> None: ...


class _Here:
    """Servers in this process, on one clock."""

    def __init__(self) -> None:
        from notnow.control.fleet import Fleet

        self._fleet = Fleet()
        self._fleet.__enter__()
        atexit.register(self._fleet.__exit__)

    def running(self) -> Mapping[str, Any]:
        return {member.fake.name: member.fake for member in self._fleet.members()}

    def start(self, scenario: str, name: str, knobs: Mapping[str, Any], port: int, speed: float) -> Any:
        return self._fleet.start(_scenario(scenario, **knobs), name=name, group=GROUP, speed=speed, port=port).fake

    def advance(self, by: str | float) -> None:
        self._fleet.advance(by)

    def stop(self, name: str) -> None:
        self._fleet.stop(name)


class _There:
    """Servers of a control API."""

    def __init__(self, url: str, token: str) -> None:
        from notnow.control.remote import connect

        self._remote = connect(url, token or None)

    def running(self) -> Mapping[str, Any]:
        return self._remote.servers

    def start(self, scenario: str, name: str, knobs: Mapping[str, Any], port: int, speed: float) -> Any:
        return self._remote.start(scenario, name=name, port=port, speed=speed, **knobs)

    def advance(self, by: str | float) -> None:
        self._remote.advance(by)

    def stop(self, name: str) -> None:
        self._remote[name].stop()


@cache
def _here() -> _Here:
    return _Here()


def _servers(url: str, token: str) -> Servers:
    return _There(url, token) if url else _here()


def _scenario(name: str, **knobs: Any) -> Scenario:
    from notnow.language import catalogue

    return catalogue.scenario(name, **knobs)


def _one(servers: Servers, name: str) -> Any:
    """A server by its name, or the only one. Raises LookupError."""
    from notnow.errors import unknown

    running = servers.running()
    if name and name not in running:
        raise LookupError(str(unknown("server", name, running)))
    if not running:
        raise LookupError("no server runs; begin with `play`")
    if not name and len(running) > 1:
        raise LookupError(f"several servers run: {', '.join(running)}; name one of them as `server`")
    return running[name or next(iter(running))]


def _report(
    server: str,
    url: str,
    token: str,
    level: Level = "should",
    exit_code: int | None = None,
    count: int | None = None,
) -> Report:
    """The report on a server, as `notnow try` makes it."""
    from notnow.conduct import reporting
    from notnow.conduct.judging import of_protocol
    from notnow.conduct.pictures.report import Client
    from notnow.conduct.rules.rule import up_to

    fake = _one(_servers(url, token), server)
    terms = reporting.Terms(of_protocol(fake.protocol), up_to(level), count=count)
    listening = {"seed": fake.seed, "scenario": fake.scenario.name}
    return reporting.report([fake], Client((), exit=exit_code), [listening], 1.0, terms)
