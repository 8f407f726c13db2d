"""A store in Redis: replicas that use it count as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from notnow.engine.capacity import Capacity
from notnow.engine.questions import Candidate, Decision, DecisionRequest, PhasePosition, Slot
from notnow.language.condition import Quota
from notnow.shared.encoding import encoded, key_text

if TYPE_CHECKING:
    from notnow.shared.replica import Replica
    from notnow.shared.state import State


class RedisStore:
    """Counts of one play of a scenario; each call is one script in Redis, and waits for it.

    `outdated`: another replica has played another scenario since. `shut`: Redis is lost, and nobody is to be let in.
    """

    remote = True

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.play, self.position = replica.state.play, replica.state.position
        self.outdated = False
        self._scenario = replica.scenario
        self._capacity: tuple[float, float, int | None] | None = None
        self._connections = 0

    @property
    def shut(self) -> bool:
        return self.replica.lost is not None and self.replica.address.when_lost == "closed"

    def told(self, state: State) -> None:
        """This is how the service stands."""
        if state.play != self.play:
            self.outdated = True
            self.position = PhasePosition()  # of a scenario that this engine does not know yet
        elif state.position != self.position:
            self.position = state.position
            self.replica.on_moved()

    @property
    def owners(self) -> list[str]:
        """Those who hold slots."""
        return self.replica.owners

    # ---- the calls of an engine ------------------------------------------------------------------

    def equip(self, capacity: Capacity) -> None:
        self._capacity = capacity.rate, capacity.refusal_cost, capacity.queue

    def move(self, seen: PhasePosition, to: PhasePosition) -> bool:
        answer = self._ask("move", seen=_plain(seen), to=_plain(to))
        if answer == "moved":
            return False
        self.replica.note_move(to, None if answer is None else answer[1])
        self.position = to  # where Redis is lost, the scenario goes on here alone
        self.replica.on_moved()
        return True

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        answer = self._ask("decide", **self._told(request, now))
        if answer == "moved":
            return None
        if answer is None:
            return self._without(request)
        _, rule, ends_phase, quotas, wait = answer
        decision = Decision(None if rule is False else rule, ends_phase, tuple(map(_quota, quotas)), wait)
        self._note(request, decision)
        return decision

    def decide_ahead(self, requests: Sequence[tuple[DecisionRequest, float]]) -> None:
        """Have Redis decide these in one go; `decide`, which is called for each of them next, has the answers then."""
        self.replica.ask_ahead("decide", [{"play": self.play, **self._told(*one)} for one in requests])

    def _told(self, request: DecisionRequest, now: float) -> dict[str, Any]:
        after = self._after(request) if request.question.until else None
        return {"request": encoded(request, facts=False), "now": now, "capacity": self._capacity, "after": after}

    def _after(self, request: DecisionRequest) -> tuple[int, int, float | None] | None:
        """Where the scenario stands if this event ends the phase; None if it stays. The script knows the time."""
        here, phases = request.position, len(self._scenario.phases)
        is_final = here.phase == phases - 1 and not self._scenario.repeat
        return None if is_final else _plain(here.next(phases, None))

    def next_connection(self) -> int:
        """Each replica has chances of its own."""
        self._connections += 1
        return self._connections

    def acquire(self, slots: Sequence[Slot]) -> None:
        if slots:
            self.replica.holds(slots)
            self._ask("acquire", slots=_texts(slots))

    def release(self, slots: Sequence[Slot]) -> None:
        if held := self.replica.gives_back(slots):
            self._ask("release", slots=held)

    def release_all(self, owner: str) -> None:
        if held := self.replica.gives_back_all(owner):
            self._ask("release", slots=held)

    def forget(self, connection: str) -> None:
        if keys := self.replica.own_keys.pop(connection, None):
            self._ask("forget", keys=sorted(keys))

    # ---- behind them -----------------------------------------------------------------------------

    def _ask(self, operation: str, **given: Any) -> Any:
        """The answer of Redis; "moved" if the scenario stands elsewhere, None if Redis is lost."""
        answer = self.replica.ask(operation, play=self.play, **given)
        if answer is not None and answer[0] == "moved":
            state = self.replica.read()
            if state is None:
                return None
            self.told(state)
            return "moved"
        return answer

    def _note(self, request: DecisionRequest, decision: Decision) -> None:
        """Remember what this replica holds now, and which keys are those of its connection alone."""
        fired = _candidate(request, decision.rule)
        if fired is None or not fired.refuses:
            self.replica.holds(request.slots)
        question, connection = request.question, request.owners[0]
        for key in (*question.counts, *question.windows, *(key for _, key in question.candidates)):
            if connection in key:
                self.replica.own_keys.setdefault(connection, set()).add(key_text(key))

    def _without(self, request: DecisionRequest) -> Decision:
        """The decision where nobody can count: none of the rules, or the first of them that refuses."""
        refusing = (one for one, _ in request.question.candidates if one.refuses) if self.shut else iter(())
        rule = next(refusing, None)
        limits = rule is not None and request.question.limits
        decision = Decision(None if rule is None else rule.rule, False, [Quota() for _ in limits] if limits else ())
        self._note(request, decision)
        return decision


def _candidate(request: DecisionRequest, rule: int | None) -> Candidate | None:
    if rule is None:
        return None
    return next(candidate for candidate, _ in request.question.candidates if candidate.rule == rule)


def _plain(position: PhasePosition) -> tuple[int, int, float | None]:
    return position.phase, position.lap, position.since


def _texts(slots: Sequence[Slot]) -> list[tuple[str, str]]:
    return [(key_text(key), owner) for key, owner in slots]


def _quota(told: Sequence[Any]) -> Quota:
    """A quota as the script tells it: false stands for what only another event decides."""
    remaining, wait, reset = (None if value is False else value for value in told)
    return Quota(remaining, wait, reset)
