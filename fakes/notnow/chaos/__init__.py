"""Search for the fault that makes a client lose data: every fault at every event, invented scenarios, and recorded ones; and for
the back-off with which a crowd of clients keeps a server down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from notnow.chaos.crowd.figures import Storm
    from notnow.chaos.matrix import Matrix
    from notnow.chaos.nemesis import Nemesis
    from notnow.conduct.assertions import Assertions
    from notnow.language.scenario import Scenario

__all__ = ["Nemesis", "save", "scenarios", "seek_amplification", "storm", "sweep", "toml"]


def sweep(
    protocol: str | Path | Scenario,
    client: Callable[[Any], object],
    /,
    *,
    faults: str | Collection[str] = (),
    at: str | Collection[str] = (),
    cells: str | Collection[str] = (),
    pairs: bool = False,
    budget: float | str | timedelta | None = None,
    timeout: float | str | timedelta = 10.0,
    count: int | None = None,
    **options: Any,
) -> Matrix:
    """Run a client once for each event of its healthy run and each fault there, and say what became of its items.

        sweep("smtp", lambda fake: outbox.flush(fake.host, fake.port)).assert_none("lost", "duplicated")

    `protocol` may also be a scenario without faults, for its [server]. `client` is called with a fresh fake each time; what
    it raises is how it reports a failure. It may be a coroutine function. `faults` and `at` (moments) confine the sweep, and
    `cells` picks single cells by their ids (`rcpt#2:421`). `pairs`: two faults at a time as well. `budget` bounds the sweep
    and `timeout` each run, in real seconds or as a duration; after the latter, the fake hangs up, and the client has hung.
    `count` is how many items the client was given, where its healthy run cannot tell. `options` are server options.

    Raises SweepError if the client fails in its healthy run, from what it raised there; ScenarioError for an unknown fault,
    moment or cell; TypeError or ValueError for invalid arguments.
    """
    from notnow.chaos.calling import swept

    return swept(
        protocol,
        client,
        faults=faults,
        at=at,
        cells=cells,
        pairs=pairs,
        budget=budget,
        timeout=timeout,
        count=count,
        options=options,
    )


def storm(
    scenario: str | Path | Scenario,
    /,
    *,
    policy: Any,
    clients: int = 1000,
    capacity: float | str | None = None,
    refusal_cost: float | str | None = None,
    queue: int | None = None,
    outage: float | str | timedelta | None = None,
    arrivals: float | str | None = None,
    spread: float | str | timedelta = 0.0,
    timeout: float | str | timedelta = 30.0,
    horizon: float | str | timedelta | None = None,
    seed: int = 0,
    **knobs: Any,
) -> Storm:
    """Simulate a crowd of clients at a server of finite capacity, and return the figures of what their policy did to it.

        calm = storm("smtp/overload", policy="exponential(base=1m, cap=1h, jitter=full)", clients=10_000, outage="10m")
        assert calm.drained_within("1h") and not calm.stays_down

    `policy` is a text of words joined by `+`, or your own: a tenacity wait or Retrying, a stamina caller, a function that one
    of these has decorated, a urllib3 Retry, a list of seconds, or a function of the number of the failed attempt that returns
    seconds (and of a `random.Random`, if it takes two). A word of the text may be the file of a report (`run.json`) or a journal
    (`run.jsonl`): the back-off of its client is fitted. Nothing sleeps and nothing connects: the engine of the fakes is fed in scenario time.

    Each of the `clients` has one item, which comes within the first `spread` of scenario time; with `arrivals`, a rate such as
    "150/s", new items keep coming. The server plays the scenario, and does `capacity` items a second, in the order in which
    they come; a refusal costs it `refusal_cost` of the work for an item. `queue` bounds how many may wait; it refuses more. Without
    these it is what the scenario says in [server], or else 200/s, 10 % and no bound.
    A client waits `timeout` for an answer; what it has asked for is done all the same. The simulation ends when all items are
    through or given up, and at the `horizon`: one day, or one hour with `arrivals`. `outage` and other keywords are knobs of
    the scenario. The same seed gives the same figures; Python's `random` is seeded meanwhile for a function of yours.

    Raises ScenarioError for what is not allowed, and for a function that raises, sleeps, or returns no seconds.
    """
    from notnow.chaos.crowd import running

    return running.storm(
        scenario,
        policy,
        clients=clients,
        capacity=capacity,
        refusal_cost=refusal_cost,
        queue=queue,
        outage=outage,
        arrivals=arrivals,
        spread=spread,
        timeout=timeout,
        horizon=horizon,
        seed=seed,
        knobs=knobs,
    )


def scenarios(
    protocol: str,
    /,
    *,
    max_faults: int = 4,
    max_phases: int = 3,
    outage: float | str | timedelta = "1m",
    heals: bool = True,
    final: bool = False,
    tls: str = "none",
    at: str | Collection[str] = (),
    where: Mapping[str, Any] | None = None,
) -> SearchStrategy[Scenario]:
    """A Hypothesis strategy for scenarios of a protocol. Needs the extra `notnow[chaos]`.

        @given(scenario=scenarios("smtp", max_faults=4))
        def test_delivered_exactly_once(scenario, fast_forward):
            with FakeSMTP(scenario) as smtp:
                outbox.flush(smtp.host, smtp.port)
            smtp.assert_delivered(count=1)

    Each scenario has at most `max_faults` rules in at most `max_phases` phases. The server is healthy in the end, after
    `outage` of scenario time at most (seconds, or a duration), and refuses nothing for good, so that a correct client can get
    everything through: one that waits between its tries, has time-outs, and comes back on a new connection.
    `heals=False` lets the last faults stay, and `final=True` adds refusals for good.

    `tls` is the TLS mode of the server. `at` confines the faults to these moments. `where` has values of facts that the
    client uses, such as `{"recipient": ["ann@a.test", "*@b.test"]}`; the rules then look for them.

    The first scenario is healthy: a property that fails there can never hold. Hypothesis shrinks towards it: fewer phases,
    fewer rules, earlier moments, plainer faults, smaller numbers. Raises ScenarioError or ValueError for invalid arguments,
    and ImportError without Hypothesis.
    """
    strategies = _with_hypothesis("strategies", "scenarios")
    found: SearchStrategy[Scenario] = strategies.invented(strategies.plan(
        protocol,
        max_faults=max_faults,
        max_phases=max_phases,
        outage=outage,
        heals=heals,
        final=final,
        tls=tls,
        at=(at,) if isinstance(at, str) else at,
        where=where or {},
    ))  # fmt: skip
    return found


def toml(text: str) -> Scenario:
    """The scenario of a text in TOML, as a failing property prints it. Raises ScenarioError."""
    from notnow.chaos.strategies_sound import NAME
    from notnow.language.loading import loads

    return loads(text, name=NAME)


def save(scenario: Scenario, file: str | Path) -> Path:
    """Write a scenario to a file that ends in `.toml`; `notnow serve`, `try` and the marker play it. Returns its path."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(scenario.text, encoding="utf-8")
    return path


def seek_amplification(fake: Assertions) -> None:
    """Let Hypothesis look for scenarios in which the client tries each item more often.

    Call it once in a property, after the client has ended. It is `hypothesis.target` with the tries an item.
    """
    from hypothesis import target

    if (found := fake.storm.amplification) is not None:
        target(found, label="tries an item")


def __getattr__(name: str) -> object:
    """Load `Nemesis` on first use: its rules are made with Hypothesis."""
    if name != "Nemesis":
        raise AttributeError(f"module 'notnow.chaos' has no attribute {name!r}; it has {', '.join(sorted(__all__))}")
    return _with_hypothesis("nemesis", name).Nemesis


def _with_hypothesis(module: str, wanted: str) -> Any:
    """A module that needs Hypothesis. Raises ImportError without it."""
    try:
        return import_module(f"notnow.chaos.{module}")
    except ModuleNotFoundError as error:
        if error.name != "hypothesis":
            raise
        found = f"notnow.chaos.{wanted} needs Hypothesis, which is not installed: pip install 'notnow[chaos]'"
        raise ImportError(found, name=error.name) from None
