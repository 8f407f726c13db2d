"""The true time, whatever a test does to clocks.

freezegun replaces functions of `time`, in that module and wherever a module holds one by name; time-machine changes
`time.time` itself, in C; fast_forward and tests replace `time.monotonic`. None of them affects the functions here.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class _Kept:
    """The original functions. They are attributes of a class, since freezegun searches only the globals of modules."""

    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    wall: Callable[[], float] = staticmethod(time.time)


def _before_freezegun() -> None:
    """A frozen test may be the first to import this module; freezegun keeps the original functions."""
    if (api := sys.modules.get("freezegun.api")) is not None:
        _Kept.monotonic, _Kept.wall = staticmethod(api.real_monotonic), staticmethod(api.real_time)


if hasattr(time, "CLOCK_MONOTONIC"):
    _Kept.monotonic = staticmethod(functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC))
    _Kept.wall = staticmethod(functools.partial(time.clock_gettime, time.CLOCK_REALTIME))
else:  # Windows
    _before_freezegun()


def monotonic() -> float:
    """Seconds of real time, from an unknown start."""
    return _Kept.monotonic()


if isinstance(_Kept.monotonic, functools.partial):  # called for everything that happens: without a function around it
    monotonic = _Kept.monotonic


def wall() -> float:
    """Seconds since 1970, from the operating system."""
    machine = sys.modules.get("time_machine")
    if machine is not None and machine.escape_hatch.is_travelling():
        with contextlib.suppress(ValueError):  # time-machine has stopped meanwhile
            return float(machine.escape_hatch.time.time())
    return _Kept.wall()


def today() -> datetime.datetime:
    """`wall` as a datetime in UTC."""
    return datetime.datetime.fromtimestamp(wall(), datetime.UTC)


@contextmanager
def true_datetime() -> Iterator[None]:
    """Restore `datetime.datetime` for a moment, if freezegun has replaced it.

    cryptography keeps the class that it sees at its first certificate: with freezegun's class, it would refuse all
    true datetimes from then on.
    """
    frozen = datetime.datetime
    setattr(datetime, "datetime", next(c for c in frozen.__mro__ if c.__module__ == "datetime"))  # noqa: B010
    try:
        yield
    finally:
        api = sys.modules.get("freezegun.api")
        if api is not None and api.freeze_factories:  # not thawed meanwhile
            setattr(datetime, "datetime", frozen)  # noqa: B010
