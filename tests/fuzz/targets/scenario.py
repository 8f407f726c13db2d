"""The text of a scenario file, and the engine that plays what has been loaded."""

from __future__ import annotations

from notnow.engine.engine import Engine
from notnow.engine.events import Closed, Opened, Tick
from notnow.errors import ScenarioError
from notnow.language.loading import loads

STEPS = 50  # ticks in which a scenario without clients must come to rest, or go on in time


def one(data: bytes) -> None:
    try:
        scenario = loads(data.decode("utf-8", "replace"), name="fuzz")
    except ScenarioError as error:
        assert str(error), "an error that says nothing"
        assert all(len(str(problem)) < 5_000 for problem in error.problems), "a message without end"
        return
    engine = Engine(scenario, seed=1)
    now = 0.0
    for n in range(3):
        engine.feed(Opened(str(n), "127.0.0.1"), now)
    for _ in range(STEPS):
        if (due := engine.due) is None:
            break
        now = max(now, due)
        engine.feed(Tick(), now)
    engine.feed(Closed("0"), now)
