"""What retry libraries call a policy: tenacity's waits, stops and `Retrying`, stamina's callers, urllib3's `Retry`.

Their own code tells the waits. Private parts of stamina are in use: `RetryingCaller._context_kws`, `BoundRetryingCaller._caller`,
`_RetryContextIterator._t_kw`, and the name `retry_ctx` in a function that `stamina.retry` has decorated
(`tests/test_policies_own.py` asks for them).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from msgspec import Struct, field

from notnow.chaos.policies.calls import Own, Slow, called
from notnow.chaos.policies.language import Parts, bad
from notnow.chaos.policies.stops import Attempts

CALLER = "a stamina.RetryingCaller with the same options"


def parts_of(name: str, own: Any) -> Parts | None:
    """What an object of a retry library adds to a policy; None if it is none. Raises ScenarioError."""
    own = _of_decorator(own)
    kinds = {one.__module__.partition(".")[0]: one.__name__ for one in reversed(type(own).__mro__)}
    if "stamina" in kinds or isinstance(own, _Unreadable):
        return _of_stamina(name, own)
    if (retrying := getattr(own, "retry", None)) is not None and hasattr(retrying, "wait") and callable(own):
        return parts_of(name, retrying)  # a function that tenacity has decorated
    if "tenacity" in kinds:
        return _of_tenacity(name, own)
    if kinds.get("urllib3") == "Retry":
        return _of_urllib3(name, own)
    return None


# ---- tenacity ------------------------------------------------------------------------------------


class _State:
    """The state of a call, as tenacity shows it to waits and stops: after so many attempts, and so many seconds."""

    def __init__(self) -> None:
        tenacity = import_module("tenacity")
        self._state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        self._state.start_time = 0.0
        self._failed = tenacity.Future(1)
        self._failed.set_exception(ConnectionError("not now"))

    def after(self, attempts: int, elapsed: float = 0.0, before: float = 0.0) -> Any:
        state = self._state
        state.attempt_number, state.outcome, state.outcome_timestamp = attempts, self._failed, elapsed
        state.idle_for = state.upcoming_sleep = before
        return state


class _Stop(Struct, frozen=True):
    """A stop of tenacity's. Raises ScenarioError if it raises."""

    name: str
    stop: Callable[[Any], bool]
    state: _State
    slow: Slow = field(default_factory=Slow)

    def stops(self, attempts: int, elapsed: float) -> bool:
        return bool(called(self.name, self.slow, lambda _: self.stop(self.state.after(attempts, elapsed)), attempts))


def _wait(name: str, wait: Callable[[Any], Any]) -> Own:
    state = _State()
    return Own(name, lambda attempt, before: wait(state.after(attempt, before=before)))


def _of_tenacity(name: str, own: Any) -> Parts | None:
    tenacity = import_module("tenacity")
    if isinstance(own, tenacity.BaseRetrying):
        return [("wait", _wait(name, own.wait)), ("stop", _Stop(name, own.stop, _State()))]
    if isinstance(own, tenacity.wait.wait_base):
        return [("wait", _wait(name, own))]
    if isinstance(own, tenacity.stop.stop_base):
        return [("stop", _Stop(name, own, _State()))]
    return None


# ---- stamina -------------------------------------------------------------------------------------


class _Unreadable:
    """What stands for a function that stamina has decorated in a way that is not known here. It must not be called."""


def _of_decorator(own: Any) -> Any:
    """The options of a function that `stamina.retry` has decorated, below other decorators or not; else the object itself."""
    inner = own
    while inner is not None:
        if getattr(inner, "__globals__", {}).get("__name__", "").partition(".")[0] == "stamina":
            return inspect.getclosurevars(inner).nonlocals.get("retry_ctx", _Unreadable())
        inner = getattr(inner, "__wrapped__", None)
    return own


def _of_stamina(name: str, own: Any) -> Parts:
    own = getattr(own, "_caller", own)
    if hasattr(own, "_context_kws"):
        own = import_module("stamina").retry_context(on=Exception, **own._context_kws)
    if not hasattr(own, "_t_kw"):
        raise bad(name, "its options of stamina cannot be read", CALLER)
    return [("wait", _wait(name, own._t_kw["wait"])), ("stop", _Stop(name, own._t_kw["stop"], _State()))]


# ---- urllib3 -------------------------------------------------------------------------------------


def _of_urllib3(name: str, own: Any) -> Parts:
    history = import_module("urllib3.util.retry").RequestHistory("GET", "/", None, 503, None)
    limits = [limit for limit in (own.total, own.status) if limit is not None and limit is not True]
    parts: Parts = [("wait", Own(name, lambda n, _: own.new(history=(history,) * n).get_backoff_time()))]
    if limits:
        parts.append(("stop", Attempts(1 + int(min(limits)))))  # False is no retry
    if own.respect_retry_after_header:
        parts.append(("heeds", ()))
    return parts
