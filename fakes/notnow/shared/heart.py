"""The threads of a replica: one renews its lease and ships its journal, the other hears what other replicas do.

Neither waits for the event loop while the lease is due: a loop that an app blocks keeps its slots.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable

from notnow.errors import NotNowError, NotRunningError
from notnow.journal import Entry
from notnow.shared.link import Lost
from notnow.shared.replica import Replica
from notnow.shared.shipping import Shipper

AGAIN = 0.2  # real seconds between two attempts to reach a Redis that is away
SHIP = 0.05  # real seconds that journal entries are gathered before they are shipped
LISTEN = 0.1  # real seconds that one look for a message takes at most
MOST_WAITING = 20_000  # entries that wait for Redis; beyond it the oldest go

InLoop = Callable[[Callable[[], object]], object]


class Heart:
    """`in_loop` runs something in the loop's thread; `follow` carries out there what others have decided, and `arrive` returns
    when it is done in all processes of this replica.
    """

    def __init__(
        self, replica: Replica, in_loop: InLoop, follow: Callable[[], None], arrive: Callable[[], None]
    ) -> None:
        self.replica, self._in_loop, self._follow, self._arrive = replica, in_loop, follow, arrive
        self._stopping = threading.Event()
        self._waiting: deque[tuple[int, Entry]] = deque(maxlen=MOST_WAITING)
        self._threads: list[threading.Thread] = []
        self._version = 0  # of the news that were carried out
        self._missed = threading.Event()  # there are news that nobody has told
        self._away: Lost | None = None  # why Redis did not answer the last time

    def start(self) -> None:
        self._stopping.clear()
        self._away = None
        self._numbers = itertools.count(1)  # readers see from a gap what got lost on the way
        self._version = self.replica.state.version
        self._shipper = Shipper(self.replica)
        self._threads = [
            threading.Thread(target=work, name=f"notnow-{work.__name__.strip('_')}", daemon=True)
            for work in (self._beat, self._hear)
        ]
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Have both threads end."""
        self._stopping.set()

    def stop(self) -> Lost | None:
        """End both threads; what the journal had to ship is shipped, unless Redis is away: then why."""
        self.finish()
        for thread in self._threads:
            thread.join()
        if self._threads and self._away is None:
            try:
                self._ship()
            except Lost as error:
                self._away = error
        self._threads = []
        return self._away

    def put(self, entry: Entry) -> None:
        """An entry of the journal is complete, or has grown."""
        self._waiting.append((next(self._numbers), entry))

    # ---- the lease and the journal ---------------------------------------------------------------

    def _beat(self) -> None:
        every = self.replica.address.lease / 4
        due = 0.0
        while not self._stopping.is_set():
            try:
                if self.replica.lost is not None:
                    self.replica.link.knock()
                    self._in_loop_and_wait(self.replica.join_again)
                    self._missed.set()
                    due = 0.0
                elif due <= 0:
                    self._renew()
                    due = every
                self._ship()
                self._away = None
            except Lost as error:
                self._away = error
                self._lose(error)
            pause = AGAIN if self.replica.lost is not None else min(SHIP, every)
            due -= pause
            self._stopping.wait(pause)

    def _renew(self) -> None:
        version = self.replica.renew()
        if version is None:
            self._in_loop_and_wait(self.replica.join_again)
        if version is None or version > self._version:
            self._missed.set()  # a message that was lost; the other thread waits for the loop

    def _lose(self, error: Exception) -> None:
        def lose() -> None:
            self.replica.lose(error)

        self._in_loop_and_wait(lose)

    def _in_loop_and_wait(self, work: Callable[[], object]) -> bool:
        """Have the loop do something; False if it does not get to it before the lease has to be renewed."""
        done = threading.Event()

        def do() -> None:
            try:
                work()
            finally:
                done.set()

        with contextlib.suppress(NotRunningError):  # the fake has stopped
            self._in_loop(do)
            return done.wait(self.replica.address.lease / 4)
        return False

    def _ship(self) -> None:
        while self._waiting:
            found = [self._waiting.popleft() for _ in range(min(len(self._waiting), 500))]
            try:
                self._shipper.ship(found)
            except Lost:
                self._waiting.extendleft(reversed(found))
                raise

    # ---- news ------------------------------------------------------------------------------------

    def _hear(self) -> None:
        while not self._stopping.is_set():
            try:
                with self.replica.link.listen() as channel:
                    self._missed.set()  # what was said before
                    while not self._stopping.is_set():
                        if channel.get_message(timeout=LISTEN) is not None or self._missed.is_set():
                            self._missed.clear()
                            self._catch_up()
            except Lost:
                self._stopping.wait(AGAIN)

    def _catch_up(self) -> None:
        """Carry out everything that other replicas have decided, and say so."""
        state = self.replica.news()
        if state is None or self.replica.lost is not None:
            return
        try:
            self.replica.clock.catch_up(state.advanced)
        except TimeoutError:  # clients keep the loop busy without a pause
            self._missed.set()
            return
        if self._in_loop_and_wait(self._follow) and self._has_arrived():
            self._version = state.version
            self.replica.done(state.version)
        else:
            self._missed.set()

    def _has_arrived(self) -> bool:
        try:
            self._arrive()
        except (NotNowError, TimeoutError):  # the fake has stopped, or one of its processes has
            return False
        return True
