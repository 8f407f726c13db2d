"""engine.feed with 20 rules, none of which fires: what a decision costs.

`python -m tests.bench.engine CASE EVENTS` prints the µs of one event, as JSON.
"""

from __future__ import annotations

import cProfile
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.bench.processes import module
from tests.bench.table import Bench, Row, Target

from notnow.engine.engine import Engine
from notnow.engine.events import Asked, Closed, Ended, Event, Opened
from notnow.language.loading import loads

RULES = 20
TARGET, APART = Target("figure", "≤", 10.0), Target("figure", "≤", 25.0)
HEAD = 'summary = "A bench."\nprotocol = "smtp"\n[[phase]]\nname = "only"\n'
RULE = '[[phase.rule]]\non = "{on}"\nreply = "450 4.7.1 later"\n{when}\n'
MANY = 100  # recipients, senders and clients: what the same facts have asked before is not worked out again

# What 20 rules ask, and at which moment.
CASES = {
    "none": ("no rules", "rcpt", None),
    "where": ("20 rules that fail `where`", "rcpt", lambda i: f'where = {{ recipient = "*@other{i}.test" }}'),
    "nth": ("20 rules that count together (`nth`)", "rcpt", lambda i: f"nth = {10**9 + i}"),
    "apart": (
        "20 rules that count each for itself",
        "rcpt",
        lambda i: f'nth = 1000000000\nwhere = {{ recipient = ["*@server.test", "{i}"] }}',
    ),
    "over": ("20 `over` rules, at connect", "connect", lambda i: f"over = {10**6 + i}"),
    "over-client": ("20 `over` rules per client, at connect", "connect", lambda i: f'over = {10**6 + i}\nper = "client"'),
    "over-mail": ("20 `over` rules, at MAIL", "mail", lambda i: f"over = {10**6 + i}"),
}  # fmt: skip


def engine(case: str) -> Engine:
    _, on, when = CASES[case]
    rules = "".join(RULE.format(on=on, when=when(i)) for i in range(RULES)) if when else ""
    return Engine(loads(HEAD + rules))


def events(case: str, count: int) -> Iterable[tuple[Event, Sequence[Event]]]:
    """The events to time, each with those that put things right again before the next."""
    on = CASES[case][1]
    if on == "connect":
        return ((Opened(f"c{i}", f"127.0.0.{i % MANY}"), (Closed(f"c{i}"),)) for i in range(count))
    known = [{"sender": f"{i}@client.test", "recipient": f"{i}@server.test"} for i in range(MANY)]
    if on == "mail":
        mails = [Asked("c", "mail", {"command": "MAIL", "sender": one["sender"]}) for one in known]
        return ((mails[i % MANY], (Ended("c", "mail"),)) for i in range(count))
    asked = [Asked("c", on, {"command": "RCPT", **one}) for one in known]
    return ((asked[i % MANY], ()) for i in range(count))


def feed(case: str, count: int) -> float:
    """The µs of an event, in the quickest of a hundred stretches: the others were interrupted by what else runs here."""
    told = engine(case)
    told.feed(Opened("c", "127.0.0.1"), 0.0)
    script = list(events(case, count))
    _stretch(told.feed, script[: count // 10])
    return min(_stretch(told.feed, script[i::100]) for i in range(100))


def _stretch(feed: Callable[[Event, float], object], script: list[tuple[Event, Sequence[Event]]]) -> float:
    """µs of each event; what it takes to put things right again is not counted, reading the clock (0.1 µs) is."""
    clock, took = time.perf_counter, 0.0
    for event, after in script:
        begun = clock()
        feed(event, 1.0)
        took += clock() - begun
        for undo in after:
            feed(undo, 1.0)
    return took / len(script) * 1e6


def run(case: str, quick: bool) -> list[Row]:
    what, target = CASES[case][0], APART if case == "apart" else TARGET
    took = sorted(module("engine", case, 5_000 if quick else 30_000) for _ in range(3 if quick else 5))
    return [Row(f"engine-{case}", f"engine.feed, {what}", took[len(took) // 2], "µs", target=target)]


def profile(case: str, into: Path) -> None:
    told = engine(case)
    told.feed(Opened("c", "127.0.0.1"), 0.0)
    profiler = cProfile.Profile()
    for event, after in events(case, 50_000):
        profiler.enable()
        told.feed(event, 1.0)
        profiler.disable()
        for undo in after:
            told.feed(undo, 1.0)
    profiler.dump_stats(into)


def _bench(case: str) -> Bench:
    what = f"engine.feed, {CASES[case][0]}"
    return Bench(f"engine-{case}", what, lambda quick: run(case, quick), lambda into: profile(case, into))


BENCHES = tuple(_bench(case) for case in CASES)


if __name__ == "__main__":
    print(json.dumps(feed(sys.argv[1], int(sys.argv[2]))))
