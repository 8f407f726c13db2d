"""The driver: it gives the turn to one party after another, and it alone moves the clock."""

from __future__ import annotations

import _thread
import contextlib
import itertools
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

from notnow.errors import FastForwardError
from notnow.time_travel import deadlock, watch
from notnow.time_travel.bystanders import Bystanders, thread_of, waits_with_timeout, where
from notnow.time_travel.clock import WorldClock
from notnow.time_travel.frames import current_frames
from notnow.time_travel.parties import (
    Ended,
    FileWait,
    Party,
    Wait,
    WaitResult,
    micro,
    real_monotonic,
    real_sleep,
    signalled,
)
from notnow.units import show

TURN = 0.02  # real seconds that a running party may be idle before others run beside it
ABROAD = 0.1  # the same for a wait for the outside world: most such calls end at once
BUSY = 1.0  # the same for a working party: it may be spinning until another has acted
SILENCE = 2.0  # real seconds without progress and without a due event after which it is a deadlock
HELD = 30.0  # real seconds for which threads from before may work while all parties wait
IN_VAIN = 100  # polls without a wait, after which a microsecond passes: a loop may wait for that
TICK = 0.02  # real seconds between two moves of the clock while real time passes
SPIN = 2_000_000  # readings of a clock that has not moved
YIELD = 10  # readings that a sleep(0) counts for
# Linux delivers on loopback before send() returns; elsewhere a kernel thread may still be delivering a request or its
# reply. There the driver looks again this often before it moves the clock, LAG apart.
LOOKS = 0 if sys.platform == "linux" else 3
LAG = 0.001
# On a busy machine, Linux may also leave a packet to a kernel thread. Before the time-out of a socket strikes, the driver
# waits this many real seconds for a reply in transit.
LAST_LOOK = 0.05


class World:
    """All parties, and the driver's thread. `moved` gets the scenario seconds after each move of the clock."""

    def __init__(self, clock: WorldClock, horizon: float, moved: Callable[[float], object]) -> None:
        self.clock, self.horizon, self._moved = clock, horizon, moved
        self.notes: dict[str, None] = {}
        self.faults: dict[str, None] = {}  # the reasons why the test proves nothing
        self.bystanders = Bystanders()
        self.children = watch.Children()
        self.failure: Exception | None = None
        self._closed = False
        self._parties: dict[object, Party] = {}  # by thread
        self._first: Party | None = None
        self._lock = threading.RLock()  # a finalizer may notify a thread while we hold it
        self._mine = threading.local()
        self._orders = itertools.count()
        self._base = -(-(real_monotonic() * 1024) // 1) / 1024  # such numbers add up without rounding
        self._wakeup_read, self._wakeup_write = os.pipe()
        os.set_blocking(self._wakeup_write, False)
        self._stirred = self._rested = real_monotonic()
        self._ticked: float | None = None  # since when real time passes
        self._looks = 0
        self._ready = _thread.allocate_lock()  # held until everything is in place
        self._ready.acquire()
        self._driver = threading.Thread(target=self._drive, name="notnow-fast-forward", daemon=True)

    # ---- who takes part ------------------------------------------------------------------------

    @property
    def party(self) -> Party | None:
        """The calling party; None for a thread in real time. A thread from before becomes a party here."""
        if self._closed or getattr(self._mine, "away", False):
            return None
        party: Party | None = getattr(self._mine, "party", None)
        return party if party is not None else self._adopt()

    def open(self) -> None:
        """Make this thread a party, and start the driver."""
        party = self._first = Party(threading.current_thread().name)
        party.bind()
        self._parties[threading.current_thread()] = party
        self._mine.party = party
        self.bystanders.awake([party.ident])  # a first look, to compare with
        with self.unseen():
            self._driver.start()

    def drive(self) -> None:
        """Everything is in place: the driver may now look for idle threads. Searching a big heap can take a second."""
        if self._ready.locked():
            self._ready.release()

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

    # ---- the driver ----------------------------------------------------------------------------

    def _drive(self) -> None:
        self._mine.away = 1
        self._ready.acquire()
        try:
            while not self._closed:
                self._step()
        except Exception as error:  # the fakes' loop is stuck, or a bug: no thread may hang because of it
            with self._lock:
                self.failure = error
            for party in self._parked():
                self._wake(party, error=FastForwardError(f"fast_forward itself failed: {error!r}"))

    def _step(self) -> None:
        """One decision: which party goes on? If none can, what is due next?"""
        running = self._running()
        if running and (self._stir(TURN, ()) or not self._idle(running)):
            return
        for party in running:
            party.adopted = watch.waits_for_work(party)  # like a thread from before: it may get work, or not
        if self._adopted_at_work():
            self._stir(TURN / 4, ())
            return
        self.clock.settle()
        if self.clock.ring() or self._give_turn():
            self._looks = 0
        else:
            self._pass_on(running)

    def _adopted_at_work(self) -> bool:
        """True if a party from before is busy. If it is at rest in an invisible call, others may go on."""
        with self._lock:
            adopted = [(key, party) for key, party in self._parties.items() if party.adopted and party.wait is None]
        if not adopted:
            return False
        alive = current_frames()
        for key, party in adopted:
            if party.ident not in alive:
                self._leave(key, party)
        awake = self.bystanders.awake(self._idents(lambda party: not party.adopted or party.wait is not None))
        return not {party.ident for _, party in adopted}.isdisjoint(awake)

    def _idents(self, which: Callable[[Party], bool]) -> set[int]:
        with self._lock:
            return {party.ident for party in self._parties.values() if which(party)}

    def _idle(self, running: list[Party]) -> bool:
        """True if every running party has been idle for long enough, or busy for too long."""
        since = real_monotonic() - self._stirred
        return all(watch.idle(party) >= (ABROAD if party.outside else TURN) for party in running) or since >= BUSY

    def _give_turn(self) -> bool:
        """Give the turn to the first party whose wait has ended. False if there is none."""
        now = micro(self.clock.shown)
        for party in self._parked():
            wait = party.wait
            if wait is not None and (result := wait.ended(now)) is not None:
                self._wake(party, result)
                return True
        return False

    def _running(self) -> list[Party]:
        with self._lock:
            return [party for party in self._parties.values() if party.wait is None and not party.adopted]

    def _parked(self) -> list[Party]:
        """The parked parties in the order of parking."""
        with self._lock:
            parked = [(p.wait.order, p) for p in self._parties.values() if p.wait is not None]
        return [party for _, party in sorted(parked, key=lambda pair: pair[0])]

    def _wake(self, party: Party, result: WaitResult = WaitResult.READY, error: Exception | None = None) -> None:
        with self._lock:
            wait = party.wait
            if wait is None:
                return  # interrupted meanwhile
            wait.result, wait.error = result, error
            party.wait = party.watched = None
            party.turn.release()
            if not any(party.outside for party in self._parties.values()):
                self._ticked = None
        self._stirred = self._rested = real_monotonic()

    def _pass_on(self, running: list[Party]) -> None:
        """No party can go on now: move the clock if that is allowed, or wait in real time."""
        parked = self._parked()
        target, whose = self._next(parked)
        stuck = [party for party in running if not party.outside]
        places = [watch.place(party) for party in stuck]
        if None in places or any(watch.idle(party) < watch.GRACE for party in stuck):
            return
        silent = real_monotonic() - self._stirred
        if silent < self._patience(running, parked, whose):
            self._tick(target, parked)
        elif self._held_up(parked):
            self._stir(TURN / 4, ())
        elif target is None:
            self._note(stuck, places)
            if not self._stir(TURN, parked) and not running:
                self._nothing_due(parked)
        elif target > self.horizon * 1e6:
            self._refuse(whose or parked[0] if parked else None)
        elif self._looks < LOOKS:
            self._looks += 1
            real_sleep(LAG)
        elif self._comes_at_the_last_moment(whose):
            self._looks = 0
        else:
            self._note(stuck, places, moving=True)
            self._ticked = None
            self._move(target)

    def _comes_at_the_last_moment(self, whose: Party | None) -> bool:
        """True if the party whose time-out is next has something to read after all. False if it waits for no socket."""
        wait = whose.wait if whose is not None else None
        return wait is not None and wait.alone and bool(signalled(wait.files, LAST_LOOK))

    def _note(self, stuck: list[Party], places: list[str | None], *, moving: bool = False) -> None:
        """Note the parties that are blocked in invisible calls: one with a time-out is in a real wait, and will be too late."""
        for party, place in zip(stuck, places, strict=True):
            timed = waits_with_timeout(party.native)
            if moving and timed:
                self.faults[self._unseen(place)] = None
            elif moving or timed:
                self.notes[self._unseen(place)] = None

    def _held_up(self, parked: list[Party]) -> bool:
        """True if the clock must stand still for threads from before: for working ones, and shortly for real waits."""
        known = self._idents(lambda party: not party.adopted or party.wait is not None)
        if awake := self.bystanders.awake(known):
            if real_monotonic() - self._rested > HELD and parked:
                self._rested = real_monotonic()
                self._wake(self._told_first(parked), error=FastForwardError(
                    f"all others wait, and {where(awake[0])} has been at work for {HELD:g} s: it was there before "
                    "fast_forward, which lets no time pass while it works; end it, or start it outside()"
                ))  # fmt: skip
            self._stirred = real_monotonic()
            return True
        waiting = self.bystanders.in_real_waits(known)
        self.bystanders.has_waited_for(waiting, TURN / 4)
        for ident in waiting:
            if ident in self.bystanders.missed:
                self.notes[
                    f"{where(ident)} has waited really since before fast_forward; the clock moved on without it "
                    f"from {show(self.clock.shown)}"
                ] = None
        return any(ident not in self.bystanders.missed for ident in waiting)

    def _nothing_due(self, parked: list[Party]) -> None:
        """Every party waits, and nothing is due: after a while that is a deadlock."""
        silent = real_monotonic() - self._stirred
        if not parked or silent < SILENCE or self.clock.asked or self.children.alive():
            return
        self._wake(self._told_first(parked), error=FastForwardError(deadlock.story(parked, self.clock.shown)))

    def _told_first(self, parked: list[Party]) -> Party:
        """The test's own thread, if it waits as well."""
        return next((party for party in parked if party is self._first), parked[0])

    def _next(self, parked: list[Party]) -> tuple[int | None, Party | None]:
        """The next due time, and its party; None for a fake's."""
        target, whose = None, None
        for party in parked:
            deadline = party.wait.deadline if party.wait is not None else None
            if deadline is not None and (target is None or deadline < target):
                target, whose = deadline, party
        due = self.clock.due
        if due is not None and (target is None or micro(due) <= target):
            return micro(due), None
        return target, whose

    def _patience(self, running: list[Party], parked: list[Party], whose: Party | None) -> float:
        """Real seconds of silence before time may jump; until then it passes at its real speed."""
        if any(party.outside for party in running):
            return watch.FOREVER
        if (running or whose is None) and self.children.alive():
            return watch.FOREVER  # a client in another process lives in real time
        ports = self.clock.ports
        return max((watch.patience(p.wait, ports) for p in parked if p.wait is not None), default=0.0)

    def _stir(self, seconds: float | None, parked: Iterable[Party]) -> bool:
        """Wait for an event, at most this many real seconds. False if none came."""
        files = [file for party in parked if party.wait is not None for file in party.wait.files]
        ready = signalled([(self._wakeup_read, select.POLLIN), *files], seconds)
        if self._wakeup_read in ready:
            os.read(self._wakeup_read, 65536)
        if ready:
            self._stirred = real_monotonic()
        return bool(ready)

    def _tick(self, target: int | None, parked: list[Party]) -> None:
        """Let real time pass for a moment, and scenario time with it."""
        now, before = micro(self.clock.shown), self._ticked if self._ticked is not None else real_monotonic()
        self._ticked = before
        self._stir(TICK if target is None else min(TICK, max(0.0, (target - now) / 1e6)), parked)
        passed = real_monotonic()
        reached = now + micro(passed - before)
        if target is not None and target < reached:
            passed -= (reached - target) / 1e6  # the rest passes later
        self._ticked = passed if self._ticked is not None else None
        self._move(reached if target is None else min(target, reached))

    def _move(self, target: int) -> None:
        self.clock.move(target)
        self._moved(self.clock.shown)
        for party in self._running() + self._parked():
            party.readings = party.looks = 0

    def _refuse(self, party: Party | None) -> None:
        far = show(self.horizon)
        if party is None:
            self._stir(TURN, ())
            return
        self._wake(party, error=FastForwardError(
            f"{party.name} waits beyond the horizon: nothing else is due within {far} of scenario time; "
            "give the wait a shorter time-out, or FastForward a longer horizon"
        ))  # fmt: skip

    def _unseen(self, place: str | None) -> str:
        return (
            f"{place} was blocked for {watch.GRACE:g} s in a call that fast_forward does not see "
            f"(such as a lock from before, or C code that sleeps); the clock moved on from {show(self.clock.shown)}"
        )

    # ---- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the driver: no thread takes part any more, and parked parties stay parked."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._call()
        self.drive()
        self._driver.join()

    def release(self) -> list[str]:
        """Release every parked party, and return the names of those that this ended."""
        left = [p for p in self._parked() if p.wait is not None and p.wait.ends_with_test and not p.wait.goes_on(p)]
        for party in self._parked():
            self._wake(party, WaitResult.CLOSED)
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)
        return [party.name for party in left]


current: World | None = None  # the active one
claim = _thread.allocate_lock()  # held by the active one, or the one about to be


def seen() -> World | None:
    """The active world, if the calling thread takes part in it."""
    world = current
    return world if world is not None and world.party is not None else None


def _forked() -> None:
    global current, claim
    current, claim = None, _thread.allocate_lock()  # a child process has no driver: it lives in real time


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
