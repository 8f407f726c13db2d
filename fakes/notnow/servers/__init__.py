"""The fakes: thin adapters of real protocol stacks onto the engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notnow.servers._fake import Fake

_CLASSES = {"smtp": ("smtp", "FakeSMTP")}


def by_protocol(protocol: str) -> type[Fake]:
    """The class of the fake for a protocol: "smtp"."""
    module, name = _CLASSES[protocol]
    found: type[Fake] = getattr(import_module(f"notnow.servers.{module}"), name)
    return found
