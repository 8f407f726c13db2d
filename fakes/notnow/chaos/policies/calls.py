"""Calls of the user's own code: they return in time, and give seconds."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from datetime import timedelta
from threading import Thread
from typing import Any

from msgspec import Struct, field

from notnow import true_time
from notnow.chaos.policies.language import bad
from notnow.errors import shown
from notnow.units import LONGEST, show

FIRST = 8  # calls that are tried before the simulation
PATIENCE = 2.0  # real seconds for all of these
SLOW = 0.02  # real seconds; if no call is quicker, it sleeps or waits for something
MOST_SLOW = 10.0  # real seconds of calls that take longer than `SLOW`, while a policy is in use
SLEEPS = "a wait is told, and not slept: return the seconds"
ALLOWED = "seconds from 0 on, as a number, and a century at most"

Given = Callable[[int, float], Any]  # of the number of the attempt, and the wait before it


class Slow(Struct):
    """The real seconds that slow calls have taken."""

    spent: float = 0.0


class Own(Struct, frozen=True):
    """A wait that the user's code tells. Raises ScenarioError for a result that is no wait."""

    name: str
    call: Given
    slow: Slow = field(default_factory=Slow)

    def seconds(self, attempt: int, before: float, rng: random.Random) -> float:  # noqa: ARG002
        return checked(self.name, attempt, called(self.name, self.slow, self.call, attempt, before))


class Drawn(Struct, frozen=True):
    """The same for a function of the attempt and a `random.Random`."""

    name: str
    call: Callable[[int, random.Random], Any]
    slow: Slow = field(default_factory=Slow)

    def seconds(self, attempt: int, before: float, rng: random.Random) -> float:  # noqa: ARG002
        return checked(self.name, attempt, called(self.name, self.slow, self.call, attempt, rng))


def of_function(name: str, function: Callable[..., Any]) -> Own | Drawn:
    """The wait of a function of the attempt, or of the attempt and a `random.Random`. Raises ScenarioError for another one."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Own(name, lambda attempt, before: function(attempt))  # noqa: ARG005
    for values in ((1,), (1, random.Random())):
        try:
            signature.bind(*values)
        except TypeError:
            continue
        return Drawn(name, function) if len(values) > 1 else Own(name, lambda attempt, before: function(attempt))  # noqa: ARG005
    allowed = "a function of the number of the failed attempt, from 1 on; and of a random.Random, if it takes two"
    raise bad(name, f"it cannot be called with (attempt) or (attempt, rng): its parameters are {signature}", allowed)


def checked(name: str, attempt: int, value: Any) -> float:
    """Seconds from what was returned. Raises ScenarioError for what is none."""
    if inspect.iscoroutine(value):
        value.close()
        raise bad(name, "it is a coroutine function, and a wait is told at once", ALLOWED)
    if isinstance(value, timedelta):
        value = value.total_seconds()
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= LONGEST or math.isnan(value):
        raise bad(name, f"it returned {shown(value)} after attempt {attempt}", ALLOWED)
    return float(value)


def called(name: str, slow: Slow, call: Callable[..., Any], attempt: int, *rest: Any) -> Any:
    """What the user's code returns. Raises ScenarioError if it raises, or takes too long: one call, or all slow ones together."""
    started = true_time.monotonic()
    try:
        found = call(attempt, *rest)
    except (Exception, SystemExit) as error:
        raise bad(name, f"it raised {type(error).__name__}: {error} after attempt {attempt}", ALLOWED) from error
    took = true_time.monotonic() - started
    slow.spent += took if took > SLOW else 0.0
    if took > PATIENCE:
        raise bad(name, f"it took {show(took)} after attempt {attempt}; {SLEEPS}", ALLOWED)
    if slow.spent > MOST_SLOW:
        raise bad(name, f"its calls have taken {show(slow.spent)} in all; {SLEEPS}", ALLOWED)
    return found


def tried(name: str, wait: Own | Drawn) -> None:
    """Call it a few times, for at most `PATIENCE`. Raises ScenarioError if it sleeps, hangs, or does not tell the first wait.

    Where only a later wait cannot be told, clients may have given up before.
    """
    failed: list[BaseException] = []
    took: list[float] = []

    def call() -> None:
        rng, before = random.Random(0), 0.0
        try:
            for attempt in range(1, FIRST + 1):
                started = true_time.monotonic()
                before = wait.seconds(attempt, before, rng)
                took.append(true_time.monotonic() - started)
        except BaseException as error:  # of the thread that asked
            failed.append(error)

    state = random.getstate()
    thread = Thread(target=call, name="notnow-wait", daemon=True)  # a daemon: one that hangs cannot be ended
    thread.start()
    thread.join(PATIENCE)
    random.setstate(state)
    if failed and not took:
        raise failed[0]
    if thread.is_alive():
        raise bad(name, f"it has not returned from call {len(took) + 1} within {show(PATIENCE)}; {SLEEPS}", ALLOWED)
    if min(took) > SLOW:
        raise bad(name, f"it takes {show(min(took))} or more each time; {SLEEPS}", ALLOWED)
