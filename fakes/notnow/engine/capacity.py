"""A server of finite capacity: one queue, work in the order in which it came, and a price for each refusal.

In the words of queueing theory it is a G/D/1/K station. A unit of work takes 1/rate seconds. The server works without a
pause while there is work, never faster than its rate. It does not learn that a client has gone: abandoned work is done
like any other, which is what keeps an overloaded server down after its cause is gone (Bronson et al., "Metastable Failures
in Distributed Systems", HotOS 2021). Each call is O(1), and time is an argument.
"""

from __future__ import annotations

from msgspec import Struct

EARLY = 1e-6  # seconds by which a place may be free too early: the rounding of a century in seconds


class Capacity(Struct, frozen=True):
    """What a server can do.

    `rate`: units of work per second. `refusal_cost`: the work of a refusal, as a share of one unit. `queue`: how many
    units may wait behind the one that is being done; None: nothing bounds it.
    """

    rate: float
    refusal_cost: float = 0.0
    queue: int | None = None


class Station:
    """The queue of a server with this capacity. Times are in seconds, and never go back."""

    __slots__ = ("_since", "_work", "capacity")

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self._since = 0.0  # when the server last began to work after a rest
        self._work = 0.0  # units that have come since then: times are sums of these, so that rounding does not add up

    @property
    def free_at(self) -> float:
        """When all work that has come so far is done."""
        return self._since + self._work / self.capacity.rate

    def waiting(self, now: float) -> float:
        """The units of work that are not done yet, those of refusals included."""
        return max(0.0, self.free_at - now) * self.capacity.rate

    def full(self, now: float) -> bool:
        """True if one more unit would exceed the bound of the queue."""
        return self.room_in(now) > 0

    def room_in(self, now: float, more: int = 0) -> float:
        """In how many seconds the work that waits is down to the bound of the queue and so many `more`; 0 if it is."""
        if self.capacity.queue is None:
            return 0.0
        wait = self.free_at - now - (self.capacity.queue + more) / self.capacity.rate
        return wait if wait > EARLY else 0.0

    def offer(self, now: float) -> float | None:
        """Accept a unit of work unless the queue is full: when it is done; None if it was refused."""
        if self.full(now):
            self.refuse(now)
            return None
        return self.accept(now)

    def accept(self, now: float) -> float:
        """Accept a unit of work whatever the bound says: when it is done."""
        self._add(1.0, now)
        return self.free_at

    def refuse(self, now: float) -> None:
        """Refuse a unit of work: the client has its answer at once, the work of the refusal joins the queue.

        If even this work finds no place, it is dropped, as a kernel does with the packets that a server has no time for.
        A server that spends all of its time on refusals does nothing else: a livelock (Mogul and Ramakrishnan,
        "Eliminating Receive Livelock in an Interrupt-driven Kernel", USENIX 1996).
        """
        if not self.room_in(now, 1):
            self._add(self.capacity.refusal_cost, now)

    def _add(self, work: float, now: float) -> None:
        if self.free_at <= now:
            self._since, self._work = now, 0.0
        self._work += work
