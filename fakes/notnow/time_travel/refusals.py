"""Refusals with an error: event loops with their own clock, and alarms of the system."""

from __future__ import annotations

import asyncio
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import signal
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from notnow.errors import FastForwardError
from notnow.time_travel import watchdogs
from notnow.time_travel.placing import Real, put, wrap
from notnow.time_travel.world import seen

_refused_loops: weakref.WeakSet[Any] = weakref.WeakSet()  # the caller may still clean up after a refusal


def refuse_patched_time() -> None:
    """Raise FastForwardError if another library has replaced functions of `time`: threads would wait by those."""
    for name in ("sleep", "monotonic", "time"):
        function = getattr(time, name)
        if not isinstance(function, types.BuiltinFunctionType):
            whose = getattr(function, "__module__", None) or type(function).__module__
            raise FastForwardError(
                f"time.{name} has been replaced by {whose}: fast_forward needs the function of Python itself; "
                "enter fast_forward first, or leave that library out of this test"
            )


def _no_foreign_loop(real: Real) -> Real:
    @functools.wraps(real)
    def run(runner: asyncio.Runner, *args: Any, **options: Any) -> Any:
        loop = runner.get_loop() if seen() is not None else None
        if loop is not None and not isinstance(loop, asyncio.BaseEventLoop):
            for work in (*args, *options.values()):
                if asyncio.iscoroutine(work):
                    work.close()  # or Python complains that it was never awaited
            _refused_loops.add(loop)
            raise _beyond(type(loop).__module__)
        return real(runner, *args, **options)

    return run


def _not_first(real: Real) -> Real:
    @functools.wraps(real)
    def run_forever(loop: Any) -> Any:
        if seen() is not None and loop not in _refused_loops:
            _refused_loops.add(loop)
            raise _beyond("uvloop")
        return real(loop)

    return run_forever


def _refused(name: str) -> Callable[[Real], Real]:
    def wrapper(real: Real) -> Real:
        @functools.wraps(real)
        def refuse(*args: Any, **options: Any) -> Any:
            if seen() is not None:
                raise _beyond(name)
            return real(*args, **options)

        return refuse

    return wrapper


def _beyond(name: str) -> FastForwardError:
    return FastForwardError(
        f"{name} keeps time on a clock of its own, which fast_forward cannot move (in {_caller()}); "
        "run this test on asyncio's own event loop, or without fast_forward"
    )


def _caller() -> str:
    return f"thread {threading.current_thread().name}"


def _real_timer(real: Real) -> Real:
    """signal.alarm and signal.setitimer: their signal comes in real time. Watchdogs may use them."""

    @functools.wraps(real)
    def set_timer(*args: Any) -> Any:
        seconds = args[0] if real.__name__ == "alarm" else args[1] if args[0] == signal.ITIMER_REAL else 0
        if seconds and seen() is not None and not watchdogs.belongs(sys._getframe(1).f_globals.get("__name__")):
            raise FastForwardError(
                f"signal.{real.__name__}({', '.join(map(str, args))}) in {_caller()} rings in real time, which "
                "fast_forward cannot move; give the wait itself a time-out, use threading.Timer, or run this test without fast_forward"
            )
        return real(*args)

    return set_timer


def _real_signal_wait(real: Real) -> Real:
    @functools.wraps(real)
    def wait(sigset: Any, timeout: float, /) -> Any:
        if timeout > 0 and seen() is not None:
            raise FastForwardError(
                f"signal.sigtimedwait(…, {timeout}) in {_caller()} waits in real time, which fast_forward cannot move; "
                "wait for an Event that the signal's handler sets, or run this test without fast_forward"
            )
        return real(sigset, timeout)

    return wait


# Where each of these libraries waits: the module, the object in it, and the replacements of its methods.
_LOOPS: dict[str, tuple[tuple[str, ...], Callable[[Real], Real], tuple[str, ...]]] = {
    "uvloop": (("Loop",), _not_first, ("run_forever",)),
    "trio._core._run": ((), _refused("trio"), ("setup_runner",)),
    "gevent.hub": (("Hub",), _refused("gevent"), ("switch", "wait")),
    "eventlet.hubs.hub": (("BaseHub",), _refused("eventlet"), ("switch",)),
}


def install(stack: ExitStack) -> None:
    """Refuse all of these until `stack` closes, also if they are imported meanwhile."""
    wrap(stack, asyncio.Runner, _no_foreign_loop, "run")
    wrap(stack, signal, _real_timer, *(n for n in ("alarm", "setitimer") if hasattr(signal, n)))
    if hasattr(signal, "sigtimedwait"):
        wrap(stack, signal, _real_signal_wait, "sigtimedwait")
    for name in _LOOPS:
        if name in sys.modules:
            _refuse(stack, sys.modules[name])
    finder = _Finder(stack)
    sys.meta_path.insert(0, finder)
    stack.callback(sys.meta_path.remove, finder)


def _refuse(stack: ExitStack, module: Any) -> None:
    inner, wrapper, methods = _LOOPS[module.__name__]
    owner = functools.reduce(getattr, inner, module)
    for method in methods:
        if hasattr(owner, method):
            put(stack, owner, method, wrapper(getattr(owner, method)))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of `_LOOPS` through the other finders, and refuses them once they are loaded."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _LOOPS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((s for finder in others if (s := finder.find_spec(name, path, target)) is not None), None)
        if spec is not None and spec.loader is not None:
            put(ExitStack(), spec.loader, "exec_module", self._refusing(spec.loader.exec_module))
        return spec

    def _refusing(self, execute: Callable[[types.ModuleType], None]) -> Callable[[types.ModuleType], None]:
        def exec_module(module: types.ModuleType) -> None:
            execute(module)
            _refuse(self._stack, module)

        return exec_module
