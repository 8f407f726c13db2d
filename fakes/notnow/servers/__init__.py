"""The fakes: thin adapters of real protocol stacks onto the engine."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from notnow.servers.base.fake import Fake

_CLASSES = {"smtp": "FakeSMTP", "ftp": "FakeFTP", "http": "FakeHTTP"}


def by_protocol(protocol: str) -> type[Fake]:
    """The class of the fake for a protocol: "smtp", "ftp", "http"."""
    found: type[Fake] = getattr(import_module(f"notnow.servers.{protocol}"), _CLASSES[protocol])
    return found
