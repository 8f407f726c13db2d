"""The driver: it gives the turn to one party after another, and it alone moves the clock."""

from __future__ import annotations

import _thread
import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterable, Sequence

from notnow.errors import DeadlockError, FastForwardError
from notnow.time_travel import deadlock, watch
from notnow.time_travel.bystanders import waits_with_timeout, where
from notnow.time_travel.clock import WorldClock
from notnow.time_travel.frames import current_frames
from notnow.time_travel.parties import (
    FileWait,
    Party,
    Wait,
    WaitResult,
    micro,
    real_monotonic,
    real_sleep,
    signalled,
)
from notnow.time_travel.roster import Roster
from notnow.time_travel.transit import arrived
from notnow.units import show

TURN = 0.02  # real seconds that a running party may be idle before others run beside it
ABROAD = 0.1  # the same for a wait for the outside world: most such calls end at once
BUSY = 1.0  # the same for a working party: it may be spinning until another has acted
SILENCE = 2.0  # real seconds without progress and without a due event after which it is a deadlock
HELD = 30.0  # real seconds for which threads from before may work while all parties wait
TICK = 0.02  # real seconds between two moves of the clock while real time passes
# Linux delivers on loopback before send() returns; elsewhere a kernel thread may still be delivering a request or its
# reply. There the driver looks again this often before it moves the clock, LAG apart.
LOOKS = 0 if sys.platform == "linux" else 3
LAG = 0.001
# On a busy machine, Linux may also leave a packet to a kernel thread. Before the clock moves to the end of a party's wait,
# the driver waits this many real seconds for a reply in transit, unless the kernel says that there is none.
LAST_LOOK = 0.05


class World(Roster):
    """All parties, and the driver's thread. `moved` gets the scenario seconds after each move of the clock."""

    def __init__(self, clock: WorldClock, horizon: float, moved: Callable[[float], object]) -> None:
        super().__init__(clock)
        self.horizon, self._moved = horizon, moved
        self._stirred = self._rested = real_monotonic()
        self._spell = (0.0, 0.0)  # the last event, and when the driver first looked for idle parties after it
        self._looks = 0
        self._looked: list[Wait] = []  # waits for sockets in which nothing was in transit
        self._first: Party | None = None
        self._ready = _thread.allocate_lock()  # held until everything is in place
        self._ready.acquire()
        self._driver = threading.Thread(target=self._drive, name="notnow-fast-forward", daemon=True)

    # ---- without the driver --------------------------------------------------------------------

    def _block(self, party: Party, wait: Wait) -> None:
        if not (self._takes_part_alone(party) and self._ends_at_once(party, wait)):
            super()._block(party, wait)

    def _takes_part_alone(self, party: Party) -> bool:
        with self._lock:
            return not self._closed and self.failure is None and [*self._parties.values()] == [party]

    def _ends_at_once(self, party: Party, wait: Wait) -> bool:
        """Give the turn back to the only party, if its wait has ended once the fakes are at rest.

        That is what the driver would do; here, it takes no change of thread to the driver and back.
        """
        with contextlib.suppress(TimeoutError):  # the driver will tell
            self.clock.settle()
            if not self.clock.rings_now and (result := wait.ended(micro(self.clock.shown))) is not None:
                wait.result = result
                self._goes_on(party)
                return True
        return False

    def _goes_on(self, party: Party) -> None:
        party.watched = None
        if not any(party.outside for party in self._parties.values()):
            self._ticked = None
        self._stirred = self._rested = real_monotonic()

    # ---- the driver ----------------------------------------------------------------------------

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
        if self.clock.ring():
            self._looks = 0
            self._looked = []
        elif self._give_turn():
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
        idle = [watch.idle(party) >= (ABROAD if party.outside else TURN) for party in running]
        return all(idle) or self._busy(running) >= BUSY

    def _busy(self, running: list[Party]) -> float:
        """Real seconds since the first look after the last event, without those in which a party waited for a processor."""
        now, queued = real_monotonic(), sum(map(watch.queued, running))
        if self._spell[0] != self._stirred:
            self._spell = (self._stirred, now - queued)
        return now - queued - self._spell[1]

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
            party.wait = None
            party.turn.release()
            self._goes_on(party)

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
        elif self._comes_at_the_last_moment(whose, parked):
            self._looks = 0
        else:
            self._note(stuck, places, moving=True)
            self._ticked = None
            self._move(target)

    def _comes_at_the_last_moment(self, whose: Party | None, parked: list[Party]) -> bool:
        """True if a party that waits for a socket has something to read after all.

        The party whose time-out is next is looked at each time. The others are looked at once a wait, and again after
        the fakes have acted: looks cost real time, and another party may sleep a thousand times meanwhile.
        """
        if whose is None:
            return False
        waits = [
            p.wait for p in parked if p.wait is not None and p.wait.alone and (p is whose or p.wait not in self._looked)
        ]
        self._looked = [party.wait for party in parked if party.wait is not None]
        files = [file for wait in waits for file in wait.files]
        return bool(files and signalled(files, 0.0 if self._nothing_in_transit(files) else LAST_LOOK))

    def _nothing_in_transit(self, files: Sequence[FileWait]) -> bool:
        """True if the kernel says so of these sockets: what has arrived since the fakes came to rest, they have answered."""
        waiting, ports = [fd for fd, _ in files], self.clock.ports
        if not arrived(waiting, ports):
            return False
        self.clock.settle()
        return arrived(waiting, ports)

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
        self._wake(self._told_first(parked), error=DeadlockError(deadlock.story(parked, self.clock.shown)))

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
