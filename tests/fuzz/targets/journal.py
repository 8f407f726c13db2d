"""A recorded journal as `notnow replay` reads it, and one from another process as `notnow conduct` and `notnow.connect` read it."""

from __future__ import annotations

import json

from tests.fuzz.oracles import replayed

from notnow import ManualClock
from notnow.conduct.judging import judge
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.journal.transport import unpack


def one(data: bytes) -> None:
    replayed(data)
    try:
        packed = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        journal = unpack(packed, ManualClock())
    except ValueError:
        return
    judge(Run([journal]))
    render([journal])
