"""The fakes: thin adapters of real protocol stacks onto the engine."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from notnow import protocols

if TYPE_CHECKING:
    from notnow.servers.base.fake import Fake


@cache
def by_protocol(protocol: str) -> type[Fake]:
    """The class of the fake for a protocol, such as "smtp"."""
    module, _, name = protocols.get(protocol).fake.rpartition(".")
    found: type[Fake] = getattr(import_module(module), name)
    return found


def takes(protocol: str, option: str) -> bool:
    """True if the fake of a protocol has this server option."""
    return option in by_protocol(protocol)._option_names
