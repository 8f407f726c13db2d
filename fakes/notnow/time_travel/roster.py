"""The roster: the threads that take part, and the calls by which they wait or read the clock."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

from notnow.errors import FastForwardError
from notnow.time_travel import watch
from notnow.time_travel.bystanders import Bystanders, thread_of
from notnow.time_travel.clock import WorldClock
from notnow.time_travel.parties import (
    Ended,
    FileWait,
    Party,
    Wait,
    WaitResult,
    micro,
    real_monotonic,
)

IN_VAIN = 100  # polls without a wait, after which a microsecond passes: a loop may wait for that
SPIN = 2_000_000  # readings of a clock that has not moved
YIELD = 10  # readings that a sleep(0) counts for


class Roster:
    """The parties, and the calls that they make. `nudge` makes the driver look again."""

    def __init__(self, clock: WorldClock) -> None:
        self.clock = clock
        self.notes: dict[str, None] = {}
        self.faults: dict[str, None] = {}  # the reasons why the test proves nothing
        self.bystanders = Bystanders()
        self.children = watch.Children()
        self.failure: Exception | None = None
        self._closed = False
        self._parties: dict[object, Party] = {}  # by thread
        self._lock = threading.RLock()  # a finalizer may notify a thread while we hold it
        self._mine = threading.local()
        self._orders = itertools.count()
        self._base = -(-(real_monotonic() * 1024) // 1) / 1024  # such numbers add up without rounding
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_write, False)
        self._ticked: float | None = None  # since when real time passes

    # ---- who takes part ------------------------------------------------------------------------

    @property
    def party(self) -> Party | None:
        """The calling party; None for a thread in real time. A thread from before becomes a party here."""
        if self._closed or getattr(self._mine, "away", False):
            return None
        party: Party | None = getattr(self._mine, "party", None)
        return party if party is not None else self._adopt()

    def _adopt(self) -> Party | None:
        ident = threading.get_ident()
        if self.bystanders.lives_in_real_time(ident, sys._getframe()):
            self._mine.away = 1
            return None
        thread = thread_of(ident)
        party = Party(thread.name if thread is not None else f"thread {ident}", adopted=True)
        party.bind()
        with self._lock:
            self._parties[thread if thread is not None else ident] = party
        self._mine.party = party
        return party

    def starts_really(self, thread: threading.Thread) -> None:
        """A thread that a party starts `outside()` does not take part."""
        if not self._closed and getattr(self._mine, "party", None) is not None:
            self.bystanders.excused.add(thread)

    def refuse_missed(self) -> None:
        """Raise FastForwardError in a thread for which the clock has not waited: its scenario time is wrong."""
        place = self.bystanders.missed.get(threading.get_ident())
        if place is not None:
            fault = (
                f"{place} has waited really, since before fast_forward, while the clock moved on: what it does now comes "
                "at the wrong scenario time; start this thread inside the test, or let it wait without a time-out"
            )
            self.faults[fault] = None
            raise FastForwardError(fault)

    def start(self, thread: threading.Thread, begin: Callable[[threading.Thread], None]) -> None:
        """Start a thread as a party. It begins parked, and gets its first turn when the others are parked."""
        run, party = thread.run, Party(thread.name)
        party.started = True
        party.wait = first = Wait(next(self._orders), micro(self.clock.shown))

        def body() -> None:
            with contextlib.suppress(Ended), self._taking_part(thread, party):
                party.block()
                self._told(first, party)
                run()

        thread.run = body  # type: ignore[method-assign]
        with self._lock:
            self._parties[thread] = party
        try:
            with self.unseen():
                begin(thread)
        except BaseException:
            self._leave(thread, party)
            raise

    @contextlib.contextmanager
    def _taking_part(self, thread: threading.Thread, party: Party) -> Iterator[None]:
        party.bind()
        self._mine.party = party
        try:
            yield
        finally:
            self._leave(thread, party)

    def _leave(self, thread: object, party: Party) -> None:
        party.over = True
        if party.started:
            vars(thread).pop("run", None)
        with self._lock:
            if self._parties.get(thread) is party:
                del self._parties[thread]
        self.nudge()

    def party_of(self, thread: threading.Thread) -> Party | None:
        """The party of a thread; None if it does not take part, or no longer does."""
        with self._lock:
            return self._parties.get(thread)

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Inside, this thread's calls are real; the clock stands still, as while it runs."""
        self._mine.away = getattr(self._mine, "away", 0) + 1
        try:
            yield
        finally:
            self._mine.away -= 1

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Inside, this thread's calls are real and wait for the outside world: real time passes."""
        party = self.party
        if party is None:
            yield
            return
        with self._lock:
            if self._ticked is None:
                self._ticked = real_monotonic()
        party.outside, party.watched = party.outside + 1, None
        try:
            with self.unseen():
                yield
        finally:
            party.watched = None
            with self._lock:
                party.outside -= 1
                if not any(other.outside for other in self._parties.values()):
                    self._ticked = None

    # ---- what parties do -----------------------------------------------------------------------

    def park(
        self,
        timeout: float | None,
        *,
        over: Callable[[], bool] | None = None,
        files: Iterable[FileWait] = (),
        alone: bool = False,
    ) -> WaitResult:
        """Wait, at most `timeout` scenario seconds: see `Wait`. Raises FastForwardError if that is impossible."""
        party = self.party
        if party is None:
            return WaitResult.CLOSED
        if timeout == 0:
            self._count(party, YIELD)
        wait = Wait(next(self._orders), self._deadline(timeout), over=over, files=files, alone=alone)
        wait.timeout = timeout
        try:
            self._block(party, wait)
        except BaseException:  # of a signal's handler: KeyboardInterrupt, or a time-out of the test
            with self._lock:
                party.wait = None
                party.turn.acquire(blocking=False)  # if the turn came at the same time
            raise
        return self._told(wait, party)

    def looked_in_vain(self) -> None:
        """A party has polled without a wait and found nothing. Others may have to go on."""
        if (party := self.party) is not None:
            party.looks += 1
            if party.looks >= IN_VAIN:
                party.looks = 0
                self.park(1e-6)

    def _block(self, party: Party, wait: Wait) -> None:
        with self._lock:
            if self._closed:
                return
            if self.failure is not None:
                raise FastForwardError(f"fast_forward itself failed: {self.failure!r}") from self.failure
            party.wait = wait
            self._call()
        party.block()

    def _told(self, wait: Wait, party: Party) -> WaitResult:
        if wait.error is not None:
            raise wait.error
        leftover = wait.result is WaitResult.CLOSED and wait.ends_with_test and not wait.goes_on(party)
        if leftover and threading.current_thread() is not threading.main_thread():
            raise Ended
        return wait.result

    def _deadline(self, timeout: float | None) -> int | None:
        """At least a microsecond later, so that a loop whose timer is a float's last bit away reaches it."""
        if timeout is None:
            return None
        now = micro(self.clock.shown)
        return now + max(1, micro(timeout)) if timeout > 0 else now

    def advance(self, span: float) -> None:
        """`clock.advance` under fast_forward."""
        if self.party is None:
            raise FastForwardError(
                "clock.advance() was called by a thread that takes no part in fast_forward; "
                "call it from the test, or from a thread that the test has started"
            )
        self.park(span)

    def monotonic(self) -> float | None:
        """A party's reading of time.monotonic(); None for other threads."""
        party = self.party
        if party is None:
            return None
        self._count(party, 1)
        return self._base + self.clock.shown

    def read(self) -> None:
        """A thread has read a clock other than `monotonic`."""
        if (party := self.party) is not None:
            self._count(party, 1)

    def _count(self, party: Party, readings: int) -> None:
        party.readings += readings
        if party.readings > SPIN:
            party.readings = 0
            raise FastForwardError(
                f"{party.name} has read the clock {SPIN:,} times without waiting: only waits move this clock; "
                "sleep in that loop, or run it without fast_forward"
            )

    def nudge(self) -> None:
        """Make the driver look again."""
        with self._lock:
            if not self._closed:
                self._call()

    def _call(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it has been woken already
            os.write(self._wakeup_write, b"!")
