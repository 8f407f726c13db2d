"""A recorded journal as `notnow replay` and `notnow storm` read it, and one from another process as `notnow.connect` reads it."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.fuzz.oracles import replayed

from notnow import ManualClock
from notnow.conduct.judging import judge
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.journal import Journal
from notnow.journal.exported import journals
from notnow.journal.transport import unpack


def one(data: bytes) -> None:
    replayed(data)
    _judged(lambda: journals(data.decode("utf-8", "replace").splitlines(), ManualClock()))
    try:
        packed = json.loads(data)
    except (ValueError, RecursionError):
        return
    _judged(lambda: [unpack(packed, ManualClock())])


def _judged(read: Callable[[], list[Journal]]) -> None:
    try:
        found = read()
    except ValueError:
        return
    judge(Run(found))
    render(found)
