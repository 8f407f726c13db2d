"""The verdict of `notnow report redis://…`: the journals of all replicas of a service, as one."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notnow.clock import ManualClock
from notnow.conduct import reporting
from notnow.conduct.judging import of_protocol
from notnow.conduct.pictures.report import Client, Report, as_dict, junit
from notnow.conduct.rules.rule import up_to
from notnow.errors import ScenarioError, unknown
from notnow.journal import Journal
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.shared.address import address
from notnow.shared.shipping import Gathered, read


@dataclass(frozen=True, slots=True)
class Recorded:
    """A server of a service, as its replicas have recorded it."""

    journal: Journal
    scenario: Scenario

    def settle(self, patience: float | None = None) -> None:
        """What is recorded is at rest."""


def report(url: str, query: Mapping[str, Any]) -> Report:
    """Judge the clients of a service. Raises ScenarioError for a wrong URL, StartError for one without a journal."""
    name, found = read(address(url, option="URL"))
    servers = _chosen(found, query["server"])
    clock = ManualClock()
    fakes = [Recorded(one.journal(clock), _scenario(one)) for one in servers]
    protocols = dict.fromkeys(fake.scenario.protocol for fake in fakes)
    terms = reporting.Terms(
        [rule for protocol in protocols for rule in of_protocol(protocol)],
        up_to(query["level"]),
        accepted=query["accept"],
        count=query["count"],
        proxy=query["role"] == "proxy",
    )
    where = [_listed(one, fake, name) for one, fake in zip(servers, fakes, strict=True)]
    return reporting.report(fakes, Client((), query["exit"]), where, servers[0].speed, terms)


def _chosen(found: Sequence[Gathered], names: Sequence[str]) -> Sequence[Gathered]:
    known = {one.name: one for one in found}
    for name in names:
        if name not in known:
            raise ScenarioError([unknown("server", name, known)])
    return [known[name] for name in names] or found


def _scenario(one: Gathered) -> Scenario:
    played = one.played
    return loads(played["more"]["toml"], name=played["text"], knobs=played["more"]["knobs"])


def _listed(one: Gathered, fake: Recorded, service: str) -> dict[str, Any]:
    """What reports say of a server: it listens in many places, so the name of the service stands for them."""
    played = {"scenario": fake.scenario.name, "protocol": fake.scenario.protocol}
    return {"name": one.name, **played, "host": service, "port": one.name, "url": None, "ca_file": None, "seed": None}


def _text(report: Report, verbose: bool) -> str:
    from notnow.conduct.pictures.text import as_text

    terminal = min(400, max(20, shutil.get_terminal_size().columns)) if sys.stdout.isatty() else None
    return as_text(report, verbose=verbose, terminal=terminal)


def _html(report: Report, _verbose: bool) -> str:
    from notnow.conduct.pictures.html import page

    return page(report, [])


def _markdown(report: Report, _verbose: bool) -> str:
    from notnow.conduct.pictures.markdown import page

    return page(report)


FORMATS: Mapping[str, Callable[[Report, bool], str]] = {
    "text": _text,
    "json": lambda report, _verbose: json.dumps(as_dict(report)),
    "junit": lambda report, _verbose: junit([report]),
    "html": _html,
    "markdown": _markdown,
}
