"""How far a scenario has come: the phase that plays, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from msgspec import Struct

from notnow.engine.compiling import compile_phases
from notnow.engine.deciding import settled_rule
from notnow.engine.idle import duration
from notnow.engine.plans import CompiledPhase, CompiledRule
from notnow.engine.questions import DecisionRequest, PhasePosition
from notnow.engine.store import Memory, Store
from notnow.language.scenario import Scenario

ANYBODY = ("",)  # whose event it is makes no difference


class Settled(Struct, frozen=True):
    """What the fake does at a moment of the phase, whatever the event and the counts are.

    `request` stands for each such event in the record of decisions, where `note` puts it. `seconds` pass until the client
    has the whole answer.
    """

    rule: CompiledRule
    fault: str | None
    request: DecisionRequest
    seconds: float
    note: Callable[[DecisionRequest, float], None]


class Progress:
    """The position of a scenario, as its store has it.

    Other replicas may move it: `refresh` reads it again. `moments` are those at which a rule acts, in any phase.
    `ends` is the scenario time at which the phase ends, infinite if that is not settled by time. `ends_elsewhere`: events
    at other replicas may end it, so the store has to be asked also where no rule looks. `undecided` are the moments about
    which neither the phase nor another replica has a say. `settled` are those at which the same rule always fires and the
    connection goes on; `refusal` is the rule that always closes at `connect`, once scenario time has begun. Both are none
    if other processes share the counts, or an idle timeout runs.
    """

    position: PhasePosition
    phase: CompiledPhase
    ends: float
    ends_elsewhere: bool
    undecided: frozenset[str]
    settled: Mapping[str, Settled]
    refusal: Settled | None

    def __init__(self, scenario: Scenario, store: Store) -> None:
        self.phases, self.repeats, self._store = compile_phases(scenario), scenario.repeat, store
        self.moments = frozenset(moment for phase in self.phases for moment in phase.plans)
        if any(phase.idle_timeouts for phase in self.phases):
            self.moments |= {"idle"}
        self._read()

    def _read(self) -> None:
        self.position = self._store.position
        self.phase = self.phases[self.position.phase]
        self.ends_elsewhere = self._store.remote and any(plan.until for plan in self.phase.plans.values())
        self.undecided = frozenset() if self._store.remote else self.phase.undecided
        settled = self._settled()
        self.settled = {moment: one for moment, one in settled.items() if not one.rule.closes}
        since, lasts = self.position.since, self.phase.lasts
        self.refusal = None if since is None or "connect" in self.settled else settled.get("connect")
        self.ends = math.inf if since is None or lasts is None or self.is_final else since + lasts

    def _settled(self) -> Mapping[str, Settled]:
        store = self._store
        found: dict[str, Settled] = {}
        if not isinstance(store, Memory) or store.remote or self.phase.idle_timeouts:
            return found
        for moment, plan in self.phase.plans.items():
            if (always := settled_rule(plan)) is not None:
                rule, question = always
                request = DecisionRequest(self.position, ANYBODY, question)
                found[moment] = Settled(rule, rule.fault or None, request, duration(rule.steps), store.note)
        return found

    @property
    def is_final(self) -> bool:
        return self.position.phase == len(self.phases) - 1 and not self.repeats

    def refresh(self) -> bool:
        """Read the position from the store. True if that is another phase or lap."""
        before = self.position
        self._read()
        return (self.position.phase, self.position.lap) != (before.phase, before.lap)

    def start(self, now: float) -> None:
        """Let scenario time begin, unless it has."""
        if self.position.since is None:
            self._move(PhasePosition(self.position.phase, self.position.lap, now))

    def next_phase(self, at: float) -> None:
        """Move on to the next phase, which begins at `at`.

        Another replica may have moved on meanwhile, which is as good. One that has only let time begin is no reason to stay.
        """
        seen = self.position
        while not self._move(self.position.next(len(self.phases), at)):
            if self._store.outdated or (self.position.phase, self.position.lap) != (seen.phase, seen.lap):
                return

    def skip_laps(self, now: float, keep: int) -> None:
        """Leave out the laps that are over by `now`, all but the last `keep` of them."""
        since, lap = self.position.since, sum(phase.lasts or math.inf for phase in self.phases)
        if since is None or self.ends == math.inf:
            return
        laps = (now - since) // lap - keep
        if laps > 0:
            self._move(PhasePosition(self.position.phase, self.position.lap + int(laps), since + laps * lap))

    def _move(self, to: PhasePosition) -> bool:
        """Move the store there, unless another replica has moved it meanwhile."""
        moved = self._store.move(self.position, to)
        self._read()
        return moved
