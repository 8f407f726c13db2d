"""The bridge of a fake with workers: it has the counts, the clock and the journal, and no clients of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from msgspec import structs

from notnow.clock import AdjustableClock, Cancellable, Origin
from notnow.engine.events import Tick
from notnow.engine.questions import PhasePosition
from notnow.engine.store import Store
from notnow.engine.trail import Traced
from notnow.errors import FakeError, StartError
from notnow.journal import Recorder
from notnow.journal.relay import Batch, GatheringRecorder
from notnow.servers.base import listener, tls
from notnow.servers.base.bridge import Bridge
from notnow.servers.base.listener import Listening
from notnow.servers.base.sharing import ALONE
from notnow.servers.base.stopping import close_all
from notnow.servers.workers.crew import Crew
from notnow.servers.workers.duty import Duty, Text
from notnow.servers.workers.remote import State
from notnow.shared.encoding import decoded, unpack_request

if TYPE_CHECKING:
    from notnow.shared.store import RedisStore

EVER = 1 << 62  # beyond every number in the order of events


class Shared(Traced):
    """The counts of all workers of a server that counts for itself; `moved` is called when the position has changed."""

    def __init__(self, moved: Callable[[], None]) -> None:
        super().__init__()
        self._moved = moved

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        done = super().move(seen, to)
        if done:
            self._moved()
        return done

    @property
    def owners(self) -> list[str]:
        """Those who hold slots."""
        return list(self._held)


class Ports:
    """The sockets of all workers, until the workers have them."""

    def __init__(self, first: socket.socket) -> None:
        self.sockets = [first]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


class Crewed(Bridge):
    """The bridge of a fake with workers: it has the counts, the clock and the journal, and no clients of its own.

    If it is a replica, its counts are in Redis. The workers have no part in that: their decisions are its own.
    """

    time_to_start: ClassVar[float] = 60.0  # real seconds for the start of all workers, on a busy machine
    time_to_stop: ClassVar[float] = 5.0  # real seconds for their end
    size: ClassVar[int]  # the number of workers
    traced: ClassVar[bool]  # see `RemoteStore`
    duties: Callable[[], list[Duty]]
    recorder: GatheringRecorder
    listener: Ports
    counts: Shared | RedisStore
    standing: State

    def __init__(self, *given: Any) -> None:
        self.version = self.decided = self.plays = 0
        self.loss: FakeError | None = None
        self.on_loss: Callable[[], object] = lambda: None
        self.crew = Crew(self, self.time_to_stop)
        super().__init__(*given)
        self.recorder.on_news = self._news
        self.recorder.number_of = self._number_of
        self._next: Cancellable | None = None

    @property
    def prompt(self) -> bool:
        return False

    def new_recorder(self, **options: Any) -> Recorder:
        return GatheringRecorder(self.clock, **options)

    def new_store(self) -> Store:
        self.decided, self.plays = 0, self.plays + 1
        self.counts = Shared(self.moved) if self.sharing is ALONE else cast("RedisStore", super().new_store())
        self.moved()
        return self.counts

    def new_listener(self, sock: socket.socket) -> Listening:
        return Ports(sock)

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        self.crew, self.loss = Crew(self, self.time_to_stop), None
        super().start()
        try:
            first = self.listener.sockets[0]
            listener.share(first)
            for _ in range(1, self.size):
                self.listener.sockets.append(listener.bind(self.host, self.port, shared=True))
            pairs = list(zip(self.duties(), self.listener.sockets, strict=True))
            self.runner.run(self.crew.start(pairs), patience=self.time_to_start)
            self.listener.close()
        except BaseException as error:
            close_all([self])
            if isinstance(error, FakeError):
                raise StartError(f"a worker could not start: {str(error).strip().rpartition(chr(10))[2]}") from error
            raise

    async def shut(self) -> None:
        self.sharing.let_go()
        await self.crew.stop()
        if self._next is not None:
            self._next.cancel()
        await super().shut()

    def lost(self, why: FakeError, duty: Duty | None = None) -> None:
        if duty is not None:
            for owner in [one for one in self.counts.owners if one.startswith(f"{duty.uid}-")]:
                self.counts.release_all(owner)
        self.loss = self.loss or why
        self.on_loss()

    def raise_errors(self) -> None:
        if self.loss is not None:
            raise self.loss
        super().raise_errors()

    # ---- counts ----------------------------------------------------------------------------------

    @property
    def origin(self) -> Origin:
        assert isinstance(self.clock, AdjustableClock), "`many` sees to it"
        return self.clock.origin

    def moved(self) -> None:
        counts, position = self.counts, self.counts.position
        if counts.outdated:
            return  # what the others play comes next
        self.version += 1
        self.standing = self.version, position.phase, position.lap, position.since, self.plays, counts.shut
        self.crew.spread()

    def cut_off(self) -> int:
        """Cut off the clients of all workers, as another replica has said; how many there are is told to nobody."""
        self.crew.tell_soon("kick")
        return 0

    def answer(self, question: str, *given: Any) -> tuple[Any, bool]:
        match question:
            case "decide":
                return self._decision(*given)
            case "move":
                moved = self.counts.move(*(PhasePosition(*place) for place in given))
                self.feed(Tick())  # this engine follows, and the journal says so
                return moved, moved
            case "in_play":
                return self._answer_in_play(*given)
            case "scenario":
                return Text.of(self.scenario), False
            case "certificate":
                found = tls.leaf(*given)
                server, *chain = (pem.bytes() for pem in found.cert_chain_pems)
                return (found.private_key_pem.bytes(), server, chain), False
        return getattr(self.counts, question)(*given), False

    def look_ahead(self, questions: Sequence[Sequence[Any]]) -> None:
        asked = [given for play, _, *given in questions if play == self.plays]
        assert not isinstance(self.counts, Shared), "only workers of a replica say which play they mean"
        self.counts.decide_ahead([(decoded(unpack_request(request)), now) for request, now in asked])

    def _answer_in_play(self, play: int, question: str, *given: Any) -> tuple[Any, bool]:
        """The answer to a question about this play; afterwards this engine is where Redis has the service."""
        if play != self.plays:
            return None, False
        found = self.answer(question, *given)
        if self.engine.progress.position is not self.counts.position:
            self.feed(Tick())
        return found

    def _decision(self, request: bytes, now: float) -> tuple[Any, bool]:
        self.decided += 1
        decision = self.counts.decide(decoded(unpack_request(request)), now)
        if decision is None:
            return None, False
        if decision.ends_phase:
            self._end_phase(now)
        return (self.decided, structs.astuple(decision)), decision.ends_phase

    def _end_phase(self, now: float) -> None:
        """The next event is one of the next phase, whichever worker it comes to."""
        phase = self.phase
        self.engine.next_phase(now)
        self._note_phase(phase)
        self._arm()

    def _number_of(self, decision: object) -> int:
        """The number of a worker's decision; of one that it made by itself, the store makes a note."""
        if isinstance(decision, int):
            return decision
        assert isinstance(decision, tuple), "a request, and the time"
        assert isinstance(self.counts, Shared), "a replica makes no decision without its store"
        request, now = decision
        self.decided += 1
        self.counts.note(decoded(unpack_request(request)), now)
        return self.decided

    # ---- the journal -----------------------------------------------------------------------------

    def _news(self) -> None:
        if self.running:
            self.crew.news()

    def gather(self, reports: Sequence[tuple[object, Batch]], last: bool = False) -> None:
        self.recorder.gather(reports, EVER if last else None)

    # ---- the clock: for any thread ---------------------------------------------------------------

    def settle(self, patience: float | None = None) -> None:
        super().settle(patience)
        self.arrive()

    def arrive(self) -> None:
        """Have the clocks of the workers show what this one does, with everything that is due on the way."""
        self.runner.run(self._advance())

    async def _advance(self) -> None:
        dues = await self.crew.tell_all("clock", self.origin)
        if self._next is not None:
            self._next.cancel()
        due = min((due for due in dues if due is not None), default=None)
        self._next = None if due is None else self.clock.call_at(due, self.loop, lambda: None)  # a time to stop at
        await self.crew.gather()
