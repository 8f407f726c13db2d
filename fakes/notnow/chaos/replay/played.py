"""The scenario that a journal was recorded under, as plain tables with its knobs filled in."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from notnow.chaos.replay.recording import Table
from notnow.errors import Problem, ScenarioError
from notnow.language import knobs
from notnow.language.conditions import CONDITIONS, When
from notnow.language.loading import loads

_RULE = re.compile(r"phase\[(\d+)\]\.rule\[(\d+)\]")
_COUNTS = frozenset(CONDITIONS) | {"chance", "within", "per"}
BESIDE = ("server", "certificate", "expect")  # the tables that stand beside the phases


class Played(Struct, frozen=True):
    """A scenario that was played: its document, with the knobs filled in."""

    document: Mapping[str, Any]
    tls: str

    @property
    def phases(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = self.document.get("phase", [])
        return found

    @property
    def tables(self) -> Table:
        """[server], [certificate] and [expect]; the server speaks TLS as it did then."""
        found: Table = {name: dict(self.document[name]) for name in BESIDE if name in self.document}
        server = found.pop("server", {})
        if self.tls and self.tls != server.get("tls", "none"):
            server["tls"] = self.tls
        return {"server": server, **found} if server else found

    def rule(self, path: str | None) -> Table | None:
        """A rule by its key path, with the keys of the fault that it names; None if there is no such rule."""
        match = _RULE.fullmatch(path or "")
        try:
            rule: Table = dict(self.phases[int(match[1])]["rule"][int(match[2])]) if match else {}
        except (IndexError, KeyError):
            return None
        named = self.document.get("fault", {}).get(rule.pop("fault", None), {})
        if "headers" in rule and "headers" in named:
            rule["headers"] = {**named["headers"], **rule["headers"]}
        return {**named, **rule} or None

    def phase_named(self, name: str) -> Mapping[str, Any] | None:
        """A phase by its name, or by the one that it has without a name: `phase 2`."""
        return next((one for i, one in enumerate(self.phases) if one.get("name", f"phase {i + 1}") == name), None)


def counts(rule: Mapping[str, Any]) -> bool:
    """True if counts or chance decide whether this rule fires, or what it says; else it depends on the event alone."""
    found = _COUNTS.intersection(rule)
    return bool(found - {"after"} if "idle" in moments(rule) else found) or knobs.tells_quota(
        knobs.live_names(str(rule))
    )


def moments(rule: Mapping[str, Any]) -> list[str]:
    on = rule.get("on", [])
    return [on] if isinstance(on, str) else list(on)


def fault(rule: Mapping[str, Any]) -> Table:
    """The keys of a rule that say what happens, without those that say when."""
    return {key: value for key, value in rule.items() if key not in When.KEYS}


def played(toml: str, values: Mapping[str, Any], tls: str) -> Played | None:
    """The scenario of a `play` entry; None if it has none that loads."""
    try:
        loads(toml, knobs=values)
    except ScenarioError:
        return None
    raw = tomllib.loads(toml)
    defaults = raw.pop("params", {})
    filler = knobs.Filler(
        knobs.settle(defaults, values, _ignore), _ignore, defaults, knobs.live_for(raw.get("protocol"))
    )
    return Played({key: filler.fill(value, (key,)) for key, value in raw.items()}, tls)


def _ignore(_path: object, _problem: Problem) -> None:
    """The scenario has been checked."""
