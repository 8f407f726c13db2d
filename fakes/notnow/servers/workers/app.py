"""Workers that answer requests."""

from __future__ import annotations

from typing import ClassVar

from notnow.servers.http.bridge import STARTUP, HTTPBridge
from notnow.servers.http.hypercorn_parts import CONFIG
from notnow.servers.workers.crewed import Crewed
from notnow.servers.workers.working import Working


class Worker(Working, HTTPBridge):
    """An `AppHost` without a UDP port, which is that of its crew."""

    def apply_server_table(self) -> None:
        """There is nothing to set up."""


class Crew(Crewed, HTTPBridge):
    """The UDP port, with workers. The app runs in each of them, not here."""

    time_to_start: ClassVar[float] = Crewed.time_to_start + STARTUP
    time_to_stop: ClassVar[float] = Crewed.time_to_stop + CONFIG.shutdown_timeout

    def prepare(self) -> None:
        """There is nothing to get ready."""
