"""Workers that answer requests."""

from __future__ import annotations

from notnow.servers.http.bridge import HTTPBridge
from notnow.servers.workers.crewed import Crewed
from notnow.servers.workers.working import Working


class Worker(Working, HTTPBridge):
    """An `AppHost` without a UDP port, which is that of its crew."""

    def apply_server_table(self) -> None:
        """There is nothing to set up."""


class Crew(Crewed, HTTPBridge):
    """The UDP port, with workers."""
