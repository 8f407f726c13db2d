"""Stops: when a client gives an item up. Without one it never does."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Stop(Protocol):
    """What tells whether a client gives up."""

    def stops(self, attempts: int, elapsed: float) -> bool:
        """True if an item is given up after so many failed attempts, and so many seconds since its first one."""
        ...


class Attempts(Struct, frozen=True):
    """After this many attempts, the first one included: tenacity's `stop_after_attempt`."""

    most: int

    def stops(self, attempts: int, elapsed: float) -> bool:  # noqa: ARG002
        return attempts >= self.most


class Within(Struct, frozen=True):
    """After this time: RFC 5321 §4.5.4.1 asks mail clients for at least 4 to 5 days."""

    most: float

    def stops(self, attempts: int, elapsed: float) -> bool:  # noqa: ARG002
        return elapsed >= self.most
