"""What a worker is told first, and what it says if our own code fails there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from operator import attrgetter
from typing import Any

from msgspec import Struct

from notnow.clock import Origin
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.servers.workers.remote import State

# The modules with the bridges of each protocol that can have workers: `Worker` for those, `Crew` for the process that they have in common.
BRIDGES: Mapping[str, str] = {
    "smtp": "notnow.servers.workers.mail",
    "ftp": "notnow.servers.workers.files",
    "http": "notnow.servers.workers.app",
}


class Text(Struct, frozen=True):
    """A scenario as another process can load it."""

    text: str
    name: str
    file: str
    knobs: dict[str, Any]

    @classmethod
    def of(cls, scenario: Scenario) -> Text:
        return cls(scenario.text, scenario.name, scenario.file, dict(scenario.knobs))

    def load(self) -> Scenario:
        return loads(self.text, name=self.name, file=self.file, knobs=self.knobs)


class Import(Struct, frozen=True):
    """An object of the user's as another process can load it: MODULE:ATTRIBUTE, and where this process looks for modules."""

    name: str
    path: list[str]

    @classmethod
    def of(cls, name: str) -> Import:
        return cls(name, list(sys.path))

    def load(self) -> Any:
        sys.path[:] = self.path
        module, _, attribute = self.name.partition(":")
        return attrgetter(attribute)(import_module(module))


class Duty(Struct, frozen=True):
    """What a worker is to do. `place` is its own in the order of events, which starts at `zero`; `traced`: see `RemoteStore`.

    The ids of its connections begin with `uid`. `app` is the ASGI application behind the server, if the user has one.
    `shared`: the server is a replica.
    """

    protocol: str
    name: str
    scenario: Text
    options: dict[str, Any]
    clock: Origin
    place: int
    uid: str
    zero: float
    standing: State
    traced: bool
    app: Import | None = None
    shared: bool = False


class Failed(Struct, frozen=True):
    """The traceback of what our own code has raised in a worker; `said`: a message for the user, as it is."""

    text: str
    said: bool = False
