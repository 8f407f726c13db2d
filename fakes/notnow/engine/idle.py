"""When connections have been idle for as long as a rule says."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from notnow.engine.actions import Action, Hang, Proceed, Respond, Send, Wait
from notnow.engine.connection import Connection
from notnow.engine.plans import IdleTimeout

DRIPS = (Send, Proceed, Respond)  # the steps that may send their bytes one by one


class IdleTimers:
    """One timer for each connection that may time out. `due` is the time of the first, infinite if there is none.

    A client that does something does not move its timer; a timer that goes off too early is set again.
    """

    def __init__(self) -> None:
        self.due = math.inf
        self._heap: list[tuple[float, str]] = []

    def clear(self) -> None:
        self._heap.clear()
        self.due = math.inf

    def set(self, connection: Connection, timeouts: Sequence[IdleTimeout]) -> None:
        """See that a connection has a timer for the first of these timeouts."""
        if not timeouts or connection.has_timer or connection.closing:
            return
        first = min(expires(connection, number, timeout) for number, timeout in enumerate(timeouts))
        if first < math.inf:  # not while the fake never answers: a client that waits for a reply is not idle
            connection.has_timer = True
            heapq.heappush(self._heap, (first, connection.id))
            self.due = self._heap[0][0]

    def pop(self) -> str:
        """Remove the first timer, and return the id of its connection."""
        _, conn = heapq.heappop(self._heap)
        self.due = self._heap[0][0] if self._heap else math.inf
        return conn


def expires(connection: Connection, number: int, timeout: IdleTimeout) -> float:
    """When a timeout of the phase, the one of this number, expires for a connection that stays idle."""
    match timeout.since:
        case "connect":
            since = connection.opened_at
        case "transfer":
            since = connection.transfer_at
        case "command":
            since = connection.command_at
        case _:
            since = connection.active_at
    return max(since, connection.timed_out_at.get(number, since)) + timeout.seconds


def duration(steps: Sequence[Action]) -> float:
    """How many seconds pass until the client has the whole answer; infinite if it hangs."""
    total = 0.0
    for step in steps:
        if isinstance(step, Hang):
            return math.inf
        if isinstance(step, Wait):
            total += step.seconds
        elif isinstance(step, DRIPS) and step.drip:
            total += step.drip * _dripped(step)
    return total


def _dripped(step: Send | Proceed | Respond) -> int:
    """The bytes that a step sends one by one."""
    match step:
        case Send(lines) | Proceed(tuple(lines)):
            return sum(len(line.encode()) + 2 for line in lines)
        case Respond(response):
            return len((response.body or "").encode())
        case _:
            return 0
