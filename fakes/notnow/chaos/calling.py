"""`notnow.chaos.sweep`, once its arguments are to be checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from notnow import protocols
from notnow.chaos.cells import Base, base_of
from notnow.chaos.faults import fault as known
from notnow.chaos.matrix import Matrix
from notnow.chaos.playing import InProcess
from notnow.chaos.sweeping import Sweep, Terms
from notnow.conduct import arguments
from notnow.errors import Problem, ScenarioError, nearest, unknown
from notnow.language import catalogue
from notnow.language.scenario import Scenario


def swept(
    protocol: str | Path | Scenario,
    client: Callable[[Any], object],
    *,
    faults: str | Collection[str],
    at: str | Collection[str],
    cells: str | Collection[str],
    pairs: bool,
    budget: float | str | timedelta | None,
    timeout: float | str | timedelta,
    count: int | None,
    options: Mapping[str, Any],
) -> Matrix:
    if not callable(client):
        raise TypeError(f"client is {client!r}; allowed: a function, which is called with a fresh fake for each run")
    if count is not None:
        arguments.whole("count", count, 1)
    base = base_for(protocol)
    terms = terms_of(base, faults=names(faults), at=names(at), cells=names(cells))
    bound = None if budget is None else arguments.time("budget", budget)
    terms = replace(terms, pairs=pairs, budget=bound, count=count)
    play = InProcess(base.protocol, client, arguments.time("timeout", timeout), options)
    return Sweep(base, play, terms).run()


def names(given: str | Collection[str]) -> Collection[str]:
    """These names; one may also stand by itself."""
    return (given,) if isinstance(given, str) else given


def base_for(given: str | Path | Scenario) -> Base:
    """The base that a protocol, a scenario or its name stands for. Raises ScenarioError."""
    if isinstance(given, Scenario):
        return base_of(given)
    return base_of(catalogue.scenario(base_name(str(given))))


def base_name(given: str) -> str:
    """The name of a scenario, or of the healthy one of a protocol. Raises ScenarioError for what can be neither."""
    if given in protocols.NAMES:
        return f"{given}/healthy"
    if "/" in given or given.endswith(catalogue.SUFFIX):
        return given
    allowed = f"{', '.join(protocols.NAMES)}; or the name or file of a scenario without faults"
    raise ScenarioError(
        [Problem(f"there is no protocol {given!r}", allowed=allowed, nearest=nearest(given, protocols.NAMES))]
    )


def terms_of(base: Base, *, faults: Collection[str], at: Collection[str], cells: Collection[str]) -> Terms:
    """Terms that confine a sweep. Raises ScenarioError for a fault or moment that the protocol does not have."""
    moments = [name for name, one in protocols.get(base.protocol).moments.items() if not (one.unasked or one.body)]
    for kind, given, allowed in (("fault", faults, known.names(base.protocol)), ("moment", at, moments)):
        for one in given:
            if one not in allowed:
                raise ScenarioError([unknown(kind, one, allowed)])
    return Terms(only=faults, at=at, cells=cells)
