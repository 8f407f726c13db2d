"""One record for each protocol: everything above looks a protocol up here, and nothing else lists them.

To add a protocol, write its record in a module of its name, and add the name to `NAMES`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notnow.protocols.protocol import Protocol

NAMES = ("smtp", "ftp", "http")


@cache
def get(name: str) -> Protocol:
    """The record of a protocol. Raises KeyError for a name that is not in `NAMES`."""
    if name not in NAMES:
        raise KeyError(name)
    found: Protocol = import_module(f"{__name__}.{name}").PROTOCOL
    return found


def every() -> tuple[Protocol, ...]:
    """All records, in the order of `NAMES`."""
    return tuple(map(get, NAMES))
