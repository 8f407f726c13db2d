"""A crowd of clients at a server of finite capacity, simulated: the real engine, fed with events in scenario time.

A heap of what happens next, and no clock, socket or thread. The same terms, policy and seed give the same storm.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from random import Random

from notnow.chaos.crowd.tally import Peak, Tally
from notnow.chaos.crowd.terms import Terms
from notnow.chaos.crowd.visits import GO, HOST, Answer, answer, busy_rules, course
from notnow.chaos.policies.guards import Guard
from notnow.chaos.policies.policy import Policy
from notnow.engine.actions import BEHAVE, Script
from notnow.engine.engine import Engine
from notnow.engine.events import Closed, Event, Tick
from notnow.garbage import uncollected

ROUND_TRIP = 0.05  # seconds that an attempt takes even if it is refused at once; without it, time could stand still
TOLD_EVERY = 20_000  # events between two words of progress

Told = Callable[[float, int, int], object]  # scenario time, items that are settled, attempts


class Item:
    """What a client has to get through, and how far it is. `visit` is the connection on which it waits for an answer."""

    __slots__ = ("attempts", "began", "born", "client", "retry_after", "visit", "wait")

    def __init__(self, client: int, born: float) -> None:
        self.client, self.born = client, born
        self.attempts, self.began, self.wait = 0, born, 0.0
        self.visit: str | None = None
        self.retry_after = 0.0


class Simulation:
    """One policy under these terms. `run` simulates; then `tally` has the counts, and `ended` when it ended."""

    def __init__(self, terms: Terms, policy: Policy, told: Told | None = None) -> None:
        self.terms, self.policy, self._told = terms, policy, told
        self.tally = Tally(terms.horizon)
        self.phases: list[float] = []  # when each phase but the first began
        self.ended = 0.0
        self.cut = False  # there were too many attempts to go on
        self.engine = Engine(terms.scenario, seed=terms.seed, host=HOST)
        self._course = course(terms.scenario, self.engine)
        self._busy_rules = busy_rules(terms.scenario)
        self._come, self._chance = Random(f"{terms.seed} come"), Random(f"{terms.seed} waits")
        self._heap: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._pushed = self._visits = 0
        self._guards: dict[int, list[Guard]] = {}
        self._said, self._meant = BEHAVE, GO  # the steps of the last script, and what they mean to a client
        self._inside: dict[str, Item] = {}  # the items whose client waits on this connection

    @uncollected()
    def run(self) -> Simulation:
        with _seeded(self.policy, self.terms.seed):
            self._begin()
            self._work()
        return self

    # ---- the heap --------------------------------------------------------------------------------

    def _at(self, at: float, do: Callable[..., None], *rest: object) -> None:
        self._pushed += 1
        heappush(self._heap, (at, self._pushed, do, rest))

    def _begin(self) -> None:
        self.engine.start(0.0)
        if self.terms.arrivals is not None:
            self._at(self._come.expovariate(self.terms.arrivals), self._arrive)
            return
        for client in range(self.terms.clients):
            at = self._come.uniform(0, self.terms.spread) if self.terms.spread else 0.0
            self._at(at, self._born, client)

    def _work(self) -> None:
        heap, horizon, events = self._heap, self.terms.horizon, 0
        while heap and heap[0][0] <= horizon and not self.cut:
            due = self.engine.due
            if due is not None and due <= heap[0][0]:
                self._tick(due)
                continue
            at, _, do, rest = heappop(heap)
            do(at, *rest)
            self.ended, events = at, events + 1
            self.cut = self.tally.attempts >= self.terms.most
            if self._told is not None and events % TOLD_EVERY == 0:
                self._told(at, self.tally.done + self.tally.gave_up, self.tally.attempts)
        if heap and not self.cut:
            self.ended = horizon
            self._pass(horizon)

    def _pass(self, until: float) -> None:
        """No client does anything until then; phases of the scenario may end."""
        while (due := self.engine.due) is not None and due <= until:
            self._tick(due)

    def _tick(self, due: float) -> None:
        before = self.engine.progress.position
        scripts = self.engine.feed(Tick(), due)
        if self.engine.progress.position is not before:
            self._note_phase(due)
        for script in scripts:
            self._cut_off(script, due)

    def _note_phase(self, now: float) -> None:
        self.phases.append(now)
        self.tally.peak_after = Peak()

    # ---- items -----------------------------------------------------------------------------------

    def _arrive(self, now: float) -> None:
        """An item comes, to any client, and the next one is on its way (a Poisson process)."""
        assert self.terms.arrivals is not None
        self._at(now + self._come.expovariate(self.terms.arrivals), self._arrive)
        self._born(now, self._come.randrange(self.terms.clients))

    def _born(self, now: float, client: int) -> None:
        self.tally.items += 1
        self.tally.births.append(now)
        self.tally.new.add(now)
        self._ask(now, Item(client, now))

    def _give_up(self, item: Item, now: float) -> None:
        self.tally.gave_up += 1
        self.tally.ends_given_up.add(item.born, now)

    # ---- attempts --------------------------------------------------------------------------------

    def _ask(self, now: float, item: Item) -> None:
        """The client asks for an item, unless a guard holds it."""
        retry = item.attempts > 0
        guards = self._guards_of(item.client)
        for guard in guards:
            held = guard.hold(now, retry, self._chance)
            if held is not None:
                self.tally.held += 1
                match held.why:
                    case "later":
                        self._at(now + max(held.seconds, ROUND_TRIP), self._ask, item)
                    case "failed":
                        item.attempts += 1
                        self._wait(now, item)
                    case "given up":
                        self._give_up(item, now)
                return
        for guard in guards:
            guard.goes(now, retry)
        self._connect(now, item)

    def _guards_of(self, client: int) -> list[Guard]:
        if not self.policy.guards:
            return []
        if client not in self._guards:
            self._guards[client] = [make() for make in self.policy.guards]
        return self._guards[client]

    def _connect(self, now: float, item: Item) -> None:
        tally = self.tally
        item.attempts += 1
        item.retry_after = 0.0
        tally.attempts += 1
        tally.asked.add(now)
        tally.peak.add(now)
        if self.phases:
            tally.peak_after.add(now)
        self._visits += 1
        conn = item.visit = str(self._visits)
        self._inside[conn] = item
        self._go_on(now, item, conn, 0, now + self.terms.timeout)

    def _go_on(self, now: float, item: Item, conn: str, place: int, deadline: float) -> None:
        """The next steps of a visit, up to one that takes time."""
        if item.visit != conn:
            return
        for number in range(place, len(self._course)):
            said = self._feed(self._course[number](conn, item.client), conn, now)
            told = self._heard(said, now)
            if told.kind != "go":
                self._refused(now, item, conn, said, told, deadline)
                return
            if told.after:
                self._later(now + told.after, deadline, item, conn, self._go_on, item, conn, number + 1, deadline)
                return
        self._through(now, item, conn)

    def _feed(self, event: Event, conn: str, now: float) -> Script | None:
        """What the engine says to a client that does something. What it says to others meanwhile reaches them."""
        before = self.engine.progress.position
        scripts = self.engine.feed(event, now)
        if self.engine.progress.position is not before:
            self._note_phase(now)
        said = next((script for script in scripts if script.conn == conn and script.moment != "enter"), None)
        for script in scripts if len(scripts) > 1 else ():
            if script is not said:
                self._cut_off(script, now)
        return said

    def _heard(self, script: Script | None, now: float) -> Answer:
        """The answer of a script. Most scripts have the steps of the one before."""
        if script is None:
            return GO
        if script.steps is not self._said:
            self._said, self._meant = script.steps, answer(script, now)
        return self._meant

    def _refused(self, now: float, item: Item, conn: str, said: Script | None, told: Answer, deadline: float) -> None:
        """A rule of the scenario refuses the visit. Where the visit is work, so is the refusal."""
        if said is not None and said.rule in self._busy_rules:
            self.tally.busy += 1
        else:
            self.tally.refused += 1
            self.tally.last_refused = now
        if told.kind == "silent":
            self._at(deadline, self._time_out, item, conn)
            return
        item.retry_after = told.retry_after or 0.0
        at = now + max(told.after, ROUND_TRIP)
        self._later(at, deadline, item, conn, self._fail, item, conn, told.kind == "final")

    def _later(self, at: float, deadline: float, item: Item, conn: str, do: Callable[..., None], *rest: object) -> None:
        """What comes of a visit at this time, unless the client does not wait for so long."""
        if at <= deadline:
            self._at(at, do, *rest)
        else:
            self._at(deadline, self._time_out, item, conn)

    # ---- ends of an attempt ----------------------------------------------------------------------

    def _leave(self, now: float, item: Item, conn: str, ok: bool) -> bool:
        """The visit ends. False if it had ended already."""
        if item.visit != conn:
            return False
        item.visit = None
        del self._inside[conn]
        self.engine.feed(Closed(conn), now)
        for guard in self._guards_of(item.client):
            guard.told(now, ok)
        return True

    def _through(self, now: float, item: Item, conn: str) -> None:
        if self._leave(now, item, conn, ok=True):
            self.tally.done += 1
            self.tally.through.add(now)
            self.tally.last_through = now
            self.tally.took += now - item.born
            self.tally.longest = max(self.tally.longest, now - item.born)
            self.tally.ends_through.add(item.born, now)

    def _time_out(self, now: float, item: Item, conn: str) -> None:
        if self._leave(now, item, conn, ok=False):
            self.tally.abandoned += 1
            self._wait(now, item)

    def _fail(self, now: float, item: Item, conn: str, final: bool) -> None:
        if not self._leave(now, item, conn, ok=False):
            return
        if final:
            self._give_up(item, now)
        else:
            self._wait(now, item)

    def _cut_off(self, script: Script, now: float) -> None:
        """The server says something unasked to a client that waits: where that is no, the visit has failed."""
        item = self._inside.get(script.conn)
        if item is not None and answer(script, now).kind in ("refused", "final"):
            self.tally.refused += 1
            self.tally.last_refused = now
            self._at(now, self._fail, item, script.conn, False)

    def _wait(self, now: float, item: Item) -> None:
        """After a failed attempt: give up, or come back later."""
        if self.policy.gives_up(item.attempts, now - item.began):
            self._give_up(item, now)
            return
        item.wait = self.policy.wait.seconds(item.attempts, item.wait, self._chance)
        told = item.retry_after if self.policy.heeds else 0.0
        self._at(now + max(item.wait, told), self._ask, item)


@contextmanager
def _seeded(policy: Policy, seed: int) -> Iterator[None]:
    """The user's code draws from Python's module `random`: seed it, and put it back as it was."""
    if not policy.own:
        yield
        return
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
