"""The store of a worker: its counts are in the process that has started it.

A decision that no count can change is made here: the store of that process would only say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notnow.engine.capacity import Capacity
from notnow.engine.questions import Decision, DecisionRequest, PhasePosition, Slot
from notnow.servers.workers.wire import Descriptor, Line, Passage
from notnow.shared.encoding import encoded, pack

# How often it has changed; the position; the number of the play; whether nobody is to be let in, as Redis is lost.
State = tuple[int, int, int, float | None, int, bool]
REMEMBERED = 1000  # decisions whose exchanges have not been written yet


class Link:
    """The line on which the loop of a worker asks. Each answer brings the position of the scenario."""

    def __init__(self, line: Line, state: State, passage: Passage) -> None:
        self._line, self._version, self._passage = line, -1, passage
        self.learn(state)

    def learn(self, state: State) -> None:
        """Know the position, if it is newer than the one that is known."""
        if state[0] > self._version:
            self._version, self.play, self.shut = state[0], state[4], state[5]
            self.position = PhasePosition(*state[1:4])

    def ask(self, *message: object) -> Any:
        result, state = self._line.call(message)
        self.learn(state)
        if isinstance(result, Exception):
            try:
                raise result
            finally:
                del result  # no circle of the exception and this frame keeps an open file until the collector comes
        return self._passage.receive() if isinstance(result, Descriptor) else result

    def tell(self, *message: object) -> None:
        """Say something that has no answer."""
        self._line.send(message)


class RemoteStore:
    """A `Store`. `by_chance`: the scenario draws on the numbers of its connections.

    `numbers` says of each decision what its number is in the other store, or the request if it was made here; it is kept if
    `traced`. A scenario that is played on live connections is not `ready` until every worker has acquired its slots.
    """

    def __init__(self, link: Link, *, by_chance: bool, traced: bool, ready: bool) -> None:
        self._link, self._by_chance, self._traced, self._ready = link, by_chance, traced, ready
        self._connections = self._decisions = 0
        self._holding: set[str] = set()  # owners of slots
        self._counted: set[str] = set()  # connections that the other store knows
        self.numbers: dict[int, object] = {}

    remote = False  # this worker always knows the position that holds, and the other process counts

    @property
    def position(self) -> PhasePosition:
        return self._link.position

    @property
    def outdated(self) -> bool:
        return False

    @property
    def shut(self) -> bool:
        return False

    def _ask(self, question: str, *given: Any) -> Any:
        return self._link.ask(question, *given)

    def equip(self, capacity: Capacity) -> None:
        """The other store is equipped by its own engine."""

    def be_ready(self) -> None:
        """The slots of live connections are acquired: wait for the other workers."""
        if not self._ready:
            self._ready = True
            self._link.ask("rest")

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        if seen != self.position:
            return False
        self.be_ready()
        return bool(self._ask("move", _place(seen), _place(to)))

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        self.be_ready()
        self._decisions += 1
        if not self.remote and request.question.is_settled:
            return self._decide_here(request, now)
        self._counted.add(request.owners[0])
        answer = self._ask("decide", pack(encoded(request, self._traced)), now)
        if answer is None:
            return None
        number, decision = answer
        self._note(number)
        self._hold(request, decision[0])
        return Decision(*decision)

    def _decide_here(self, request: DecisionRequest, now: float) -> Decision | None:
        if request.position is not self.position:
            return None
        if self._traced:
            self._note((pack(encoded(request)), now))
        rule = request.question.first
        return Decision(None if rule is None else rule.rule)

    def _note(self, number: object) -> None:
        if self._traced:
            self.numbers[self._decisions] = number
            self.numbers.pop(self._decisions - REMEMBERED, None)

    def _hold(self, request: DecisionRequest, rule: int | None) -> None:
        """Remember who has acquired a slot, as far as the event was let through."""
        slots, candidates = request.slots, request.question.candidates
        if slots and not any(c.refuses for c, _ in candidates if c.rule == rule):
            self._holding.update(owner for _, owner in slots)

    def next_connection(self) -> int:
        if self._by_chance:
            return int(self._link.ask("next_connection"))
        self._connections += 1
        return self._connections

    def acquire(self, slots: Sequence[Slot]) -> None:
        if slots:
            self._holding.update(owner for _, owner in slots)
            self._ask("acquire", slots)

    def release(self, slots: Sequence[Slot]) -> None:
        if slots:
            self._ask("release", slots)

    def release_all(self, owner: str) -> None:
        if owner in self._holding:
            self._holding.discard(owner)
            self._ask("release_all", owner)

    def forget(self, connection: str) -> None:
        if connection in self._counted:
            self._counted.discard(connection)
            self._ask("forget", connection)


class ReplicaStore(RemoteStore):
    """The store of a worker of a replica.

    Other replicas move the scenario, so each decision is asked for: the other process asks Redis.
    Questions name the play that they are about; of an earlier one, the answer is None.
    """

    remote = True

    def __init__(self, link: Link, *, by_chance: bool, traced: bool) -> None:
        super().__init__(link, by_chance=by_chance, traced=traced, ready=True)
        self._play, self._unknown = link.play, PhasePosition()

    @property
    def position(self) -> PhasePosition:
        return self._unknown if self.outdated else self._link.position

    @property
    def outdated(self) -> bool:
        return self._link.play != self._play

    @property
    def shut(self) -> bool:
        return self._link.shut

    def _ask(self, question: str, *given: Any) -> Any:
        return self._link.ask("in_play", self._play, question, *given)


def _place(position: PhasePosition) -> tuple[int, int, float | None]:
    return position.phase, position.lap, position.since
