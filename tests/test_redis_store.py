"""The store in Redis decides as the one in memory does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from notnow.engine.capacity import Capacity
from notnow.engine.questions import Candidate, Decision, DecisionRequest, Key, PhasePosition, Question, Slot, slates_of
from notnow.engine.store import Memory
from notnow.language.condition import Condition
from notnow.language.conditions import Nth, Over
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.shared import link
from notnow.shared.address import address
from notnow.shared.clock import SharedClock
from notnow.shared.encoding import CLASSES
from notnow.shared.replica import Replica
from notnow.shared.store import RedisStore
from redis_server import RedisServer, running

ONE_PHASE = loads('protocol = "smtp"\n')
SCENARIO = loads('protocol = "smtp"\n[[phase]]\n[[phase]]\n')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running(tmp_path_factory.mktemp("redis")) as found:
        yield found


def replica(url: str, name: str, scenario: Scenario = SCENARIO, **words: str) -> Replica:
    where = "&".join([f"{url}?socket_timeout=9&name={name}", *(f"{key}={value}" for key, value in words.items())])
    return Replica(address(where), "smtp", SharedClock(), scenario)


def joined(url: str, name: str, scenario: Scenario = SCENARIO, **words: str) -> Replica:
    made = replica(url, name, scenario, **words)
    made.join()
    return made


# ---- every condition has its Lua ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_every_condition_has_its_lua(name: str) -> None:
    lua = link.script(link.PARTS["decide"])
    assert f"function holds.{name}(" in lua, (
        f"the condition {name} of language/conditions.py has no Lua: add holds.{name} to fakes/notnow/shared/conditions.lua"
    )
    assert (f"function quota.{name}(" in lua) == bool(CLASSES[name].tells), (
        f"{name}.tells and quota.{name} of fakes/notnow/shared/conditions.lua go together"
    )


def said(decision: Decision) -> tuple[object, ...]:
    return decision.rule, decision.ends_phase, list(decision.quotas), decision.wait


# ---- side by side ------------------------------------------------------------------------------------

CAPACITY = Capacity(rate=1.0, refusal_cost=0.25, queue=1)
FIELDS = {
    "wanted": st.booleans(),
    "span": st.sampled_from([0.1, 1.0, 2.5]),
    "n": st.integers(0, 4),
    "rule": st.integers(0, 3),
}
FROM_ONE = {"Every"}  # every 0th event is no condition: the loader refuses it


def condition(cls: type[Condition]) -> st.SearchStrategy[Condition]:
    """A condition of this class, with small numbers. A field of another name needs a strategy in FIELDS."""
    least = st.integers(1, 4) if cls.__name__ in FROM_ONE else FIELDS["n"]
    return st.builds(cls, **{name: least if name == "n" else FIELDS[name] for name in cls.__struct_fields__})


@pytest.mark.parametrize(
    ("to", "restarts"),
    [(PhasePosition(1), True), (PhasePosition(0, 1), True), (PhasePosition(0, 0, 3.0), False)],
)
def test_counts_restart_with_the_phase_and_with_the_lap(server: RedisServer, to: PhasePosition, restarts: bool) -> None:
    one = joined(server.url, "moves")
    store, second = RedisStore(one), Candidate(0, (Nth(2),), True)
    for position in (PhasePosition(), to):
        decision = store.decide(
            DecisionRequest(position, ("me",), Question(slates_of([("in",)], [(second, ("in",))]))), 0.0
        )
        assert store.move(position, to)
    one.leave()
    assert decision == Decision(None if restarts else 0)


@pytest.mark.parametrize(
    ("repeat", "ends"), [(False, PhasePosition(1, 0, 2.0)), (True, PhasePosition(0, 1, 3.0))], ids=["stays", "repeats"]
)
def test_the_event_that_ends_a_phase_is_its_last_whoever_moves_on(
    server: RedisServer, repeat: bool, ends: PhasePosition
) -> None:
    scenario = loads(f"protocol = 'smtp'\nrepeat = {str(repeat).lower()}\n[[phase]]\n[[phase]]\n")
    replicas = [joined(server.url, f"last-{repeat}", scenario) for _ in range(2)]
    first, other = map(RedisStore, replicas)
    begun = PhasePosition(0, 0, 0.0)
    assert first.move(PhasePosition(), begun)
    assert other.decide(DecisionRequest(PhasePosition(), ("b",), Question()), 0.0) is None
    last = DecisionRequest(begun, ("a",), Question(slates_of([("in",)], ()), until=[("connect", 1)]))
    assert first.decide(last, 2.0) == Decision(None, ends_phase=True)
    assert other.decide(last, 2.0) is None  # `first` has told nobody yet
    assert other.position == PhasePosition(1, 0, 2.0)
    of_second = DecisionRequest(other.position, ("b",), Question(slates_of([("in",)], ()), until=[("connect", 1)]))
    assert other.decide(of_second, 3.0) == Decision(None, ends_phase=True)
    assert not first.move(begun, PhasePosition(1, 0, 2.0))
    assert first.position == ends
    for one in replicas:
        one.leave()


ONE_SLOT = Candidate(0, (Over(1),), True)


def admission(owner: str, *until: tuple[str, int]) -> DecisionRequest:
    key = ("in",)
    return DecisionRequest(
        PhasePosition(), (owner,), Question(slates_of((), [(ONE_SLOT, key)]), [(key, 0)], until=until)
    )


class TestAskedAhead:
    """Decisions that Redis takes in one go are those that it takes one by one."""

    def test_each_is_taken_once_and_in_order(self, server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
        one = joined(server.url, "ahead", ONE_PHASE)
        store = RedisStore(one)
        store.decide_ahead([(admission("a"), 0.0), (admission("b"), 0.0)])
        with monkeypatch.context() as patch:
            patch.setattr(one.link, "_scripts", {"decide": None})  # nothing more can be asked
            assert [store.decide(admission(owner), 0.0) for owner in "ab"] == [Decision(None), Decision(0)]
        store.release_all("a")
        assert store.decide(admission("b"), 0.0) == Decision(None)
        one.leave()

    def test_what_redis_did_not_do_is_asked_again(self, server: RedisServer) -> None:
        one = joined(server.url, "forgotten", ONE_PHASE)
        store = RedisStore(one)
        one.link.redis.script_flush()
        store.decide_ahead([(admission("a"), 0.0), (admission("b"), 0.0)])
        assert [store.decide(admission(owner), 0.0) for owner in "ab"] == [Decision(None), Decision(0)]
        one.leave()

    def test_the_first_one_ends_the_phase_of_the_second(self, server: RedisServer) -> None:
        one = joined(server.url, "ahead-ends")
        store = RedisStore(one)
        store.decide_ahead([(admission(owner, ("connect", 1)), 0.0) for owner in "ab"])
        assert store.decide(admission("a", ("connect", 1)), 0.0) == Decision(None, ends_phase=True)
        assert store.decide(admission("b", ("connect", 1)), 0.0) is None
        assert store.owners == ["a"]
        one.leave()

    def test_without_redis_nothing_is_asked_again(self, tmp_path: Path) -> None:
        with running(tmp_path) as gone:
            one = joined(gone.url, "gone", ONE_PHASE)
            gone.stop()
            store = RedisStore(one)
            store.decide_ahead([(admission("a"), 0.0), (admission("b"), 0.0)])
            assert one.lost is not None
            assert [store.decide(admission(owner), 0.0) for owner in "ab"] == [Decision(0), Decision(0)]
            one.leave()


FIXED = {"wanted": True, "span": 1.0, "n": 2, "rule": 0}


@pytest.mark.parametrize("name", CLASSES)
def test_a_condition_holds_in_redis_when_it_holds_in_memory(server: RedisServer, name: str) -> None:
    cls, memory = CLASSES[name], Memory()
    one = joined(server.url, f"alone-{name}", ONE_PHASE)
    store, told = RedisStore(one), set[object]()
    for each in (memory, store):
        each.equip(CAPACITY)
    for n, owner in enumerate("abaabbcabaacbbba"):
        made = cls(*(FIXED[field] for field in cls.__struct_fields__))
        rule, key = Candidate(0, (made,), refuses=n % 3 > 0), ("in",)
        request = DecisionRequest(
            PhasePosition(),
            (owner,),
            Question(slates_of([key], [(rule, key)]), [(key, 0)], [key], [("mail", 5)], [(rule, key)], work=True),
        )
        expected, found = memory.decide(request, n * 0.4), store.decide(request, n * 0.4)
        assert expected is not None
        assert found is not None
        assert said(found) == said(expected)
        told.add(found.rule)
        if n % 5 == 4:
            for each in (memory, store):
                each.release_all(owner)
    one.leave()
    assert told == {None, 0}, "the story shows both"


CONDITIONS = st.one_of([condition(cls) for cls in CLASSES.values()])
CANDIDATES = st.builds(
    Candidate, st.integers(0, 3), st.lists(CONDITIONS, max_size=2).map(tuple), st.booleans()
)  # fmt: skip
SHARED_KEYS: list[Key] = [("mail",), ("from", "\udcff", None), ("in", ("a", "b"))]
CONNECTIONS = ["a", "b", "c", "d"]
LAPS = st.integers(0, 1)


class SideBySide(RuleBasedStateMachine):
    """Memory, and two replicas of a service in Redis, of which each has its own connections."""

    url = ""
    names = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        name = f"side-{next(self.names)}"
        self.memory = Memory()
        self.replicas = [joined(self.url, name) for _ in range(2)]
        self.stores = [RedisStore(one) for one in self.replicas]
        for store in (self.memory, *self.stores):
            store.equip(CAPACITY)
        self.now = 0.0
        self.living: set[str] = set()

    def teardown(self) -> None:
        for one in self.replicas:
            one.leave()

    def store_of(self, connection: str) -> RedisStore:
        return self.stores[CONNECTIONS.index(connection) % 2]

    def follow(self) -> None:
        for one, store in zip(self.replicas, self.stores, strict=True):
            state = one.read()
            assert state is not None
            store.told(state)

    @rule(by=st.sampled_from([0.0, 0.05, 0.1, 1.0, 3.0]))
    def time_passes(self, by: float) -> None:
        self.now += by

    @rule(
        connection=st.sampled_from(CONNECTIONS),
        in_progress=st.booleans(),
        keys=st.lists(st.sampled_from([*SHARED_KEYS, ("own",)]), min_size=1, max_size=3, unique=True),
        candidates=st.lists(CANDIDATES, max_size=4),
        admits=st.booleans(),
        until=st.lists(st.tuples(st.sampled_from(["mail", "any"]), st.integers(1, 5)), max_size=2),
        counted=st.booleans(),
        work=st.booleans(),
    )
    def decide(
        self, connection: str, in_progress: bool, keys: list[Key], candidates: list[Candidate], admits: bool,
        until: list[tuple[str, int]], counted: bool, work: bool,
    ) -> None:  # fmt: skip
        keys = [(*key, connection) if key == ("own",) else key for key in keys]
        owners = (connection, f"{connection}/mail/0") if in_progress else (connection,)
        pairs = [(candidate, keys[n % len(keys)]) for n, candidate in enumerate(candidates)]
        if not counted:  # such a condition is only asked where its events are counted
            pairs = [(c, key) for c, key in pairs if all(one.counts != "events" for one in c.conditions)]
        self.living.add(connection)
        request = DecisionRequest(
            self.memory.position,
            owners,
            Question(
                slates_of(keys if counted else (), pairs),
                slots=[(key, len(owners) - 1) for key in keys] if admits else (),
                windows=keys[:1] if admits else (),
                until=until,
                limits=[(candidate, key) for candidate, key in pairs if candidate.limits],
                work=work,
            ),
        )
        expected = self.memory.decide(request, self.now)
        found = self.store_of(connection).decide(request, self.now)
        assert found is not None
        assert expected is not None
        assert said(found) == said(expected)
        here = request.position
        if found.ends_phase and here.phase < len(SCENARIO.phases) - 1:  # the script has moved on with it
            self.memory.move(here, here.next(len(SCENARIO.phases), self.now))

    @rule(connection=st.sampled_from(CONNECTIONS), key=st.sampled_from(SHARED_KEYS))
    def slots_are_acquired_and_released(self, connection: str, key: Key) -> None:
        self.living.add(connection)
        slots: list[Slot] = [(key, connection)]
        for store in (self.memory, self.store_of(connection)):
            store.acquire(slots)

    @rule(connection=st.sampled_from(CONNECTIONS), key=st.sampled_from(SHARED_KEYS))
    def release(self, connection: str, key: Key) -> None:
        for store in (self.memory, self.store_of(connection)):
            store.release([(key, connection)])

    @rule(connection=st.sampled_from(CONNECTIONS))
    def what_was_in_progress_ends(self, connection: str) -> None:
        for store in (self.memory, self.store_of(connection)):
            store.release_all(f"{connection}/mail/0")

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def a_connection_closes(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.living)))
        self.living.discard(connection)
        for store in (self.memory, self.store_of(connection)):
            store.release_all(connection)
            store.release_all(f"{connection}/mail/0")
            store.forget(connection)

    @rule(which=st.integers(0, 1), phase=st.integers(0, 1), lap=LAPS)
    def the_scenario_moves(self, which: int, phase: int, lap: int) -> None:
        to = PhasePosition(phase, lap, self.now)
        seen = self.memory.position
        assert self.memory.move(seen, to) == self.stores[which].move(seen, to)

    @rule(which=st.integers(0, 1), connection=st.sampled_from(CONNECTIONS))
    def a_move_from_elsewhere_is_refused(self, which: int, connection: str) -> None:
        seen = PhasePosition(9, 9, 9.0)
        assert not self.memory.move(seen, PhasePosition())
        assert not self.stores[which].move(seen, PhasePosition())
        late = DecisionRequest(seen, (connection,), Question(slates_of(SHARED_KEYS, ())))
        assert self.memory.decide(late, self.now) is self.stores[which].decide(late, self.now) is None

    @invariant()
    def both_stand_at_the_same_place(self) -> None:
        self.follow()
        assert {store.position for store in self.stores} == {self.memory.position}


def test_redis_decides_as_memory_does(server: RedisServer) -> None:
    SideBySide.url = server.url
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        SideBySide,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # each step asks Redis: to shrink takes minutes
        ),
    )
