"""How the driver of fast_forward sees that a thread is blocked."""

from __future__ import annotations

import threading

import pytest

from notnow.time_travel import watch
from notnow.time_travel.parties import Party


def test_a_driver_that_could_not_look_has_seen_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GIL was held for five seconds, or the machine was asleep: that says nothing about the thread."""
    party, now = Party(threading.current_thread().name), [0.0]
    party.bind()
    monkeypatch.setattr(watch, "real_monotonic", lambda: now[0])
    monkeypatch.setattr(watch, "_effort", lambda _: 0.0)
    seen = []
    for now[0] in (0.0, 5.0, 5.02, 5.04):
        seen.append(watch.idle(party))
    assert seen == [0.0, watch.LOOK, pytest.approx(watch.LOOK + 0.02), pytest.approx(watch.LOOK + 0.04)]
