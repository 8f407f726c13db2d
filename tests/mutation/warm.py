"""Mutants of functions, in forks of one process that has imported the code and collected the tests already.

The function gets the code of the mutant. That is not enough where the code ran while modules were imported, or where the
change is outside of functions: `outcome` returns None then, and the mutant needs a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType

import pytest
from _pytest.main import pytest_runtestloop as run_tests
from tests.mutation.mutants import Mutant, parsed

SURVIVED, KILLED, UNFIT = 0, 1, 3
OPTIMIZED = inspect.CO_OPTIMIZED  # the flag of the code of a function


class WarmTests:
    """A plugin of pytest: calls `work` in place of the tests, which run once a mutant, by `outcome`."""

    def __init__(self, source: Path, work: Callable[[WarmTests], None]) -> None:
        self.source = str(source)
        self.work = work
        self.ran: set[CodeType] = set()
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self.source):
            self.ran.add(frame.f_code)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.setprofile(None)
        self.session = session
        self.work(self)
        return True

    def outcome(self, mutant: Mutant, tests: Sequence[str], limit: int) -> int | None:
        """The exit status of the tests of these files, in their order; None if the mutant needs a process of its own."""
        changed = changed_functions(mutant)
        if not changed or self.ran & changed.keys():
            return None
        return self._status(mutant.path, changed, tests, limit)

    def control(self, path: Path, tests: Sequence[str], limit: int) -> int | None:
        """The same with no mutant: each function gets its own code again."""
        functions = [code for code in _codes(compile(parsed(path), str(path), "exec")) if code.co_flags & OPTIMIZED]
        return self._status(path, {code: code for code in functions}, tests, limit)

    def _status(self, path: Path, changed: dict[CodeType, CodeType], tests: Sequence[str], limit: int) -> int | None:
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException):
                silence(limit)
                os._exit(self._run(path, changed, tests))
            os._exit(KILLED)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return None if status == UNFIT else status

    def _run(self, path: Path, changed: dict[CodeType, CodeType], tests: Sequence[str]) -> int:
        if not swapped(path, changed):
            return UNFIT
        items = [item for item in self.session.items if str(item.path) in tests]
        self.session.items = sorted(items, key=lambda item: tests.index(str(item.path)))
        run_tests(self.session)
        return KILLED if self.session.testsfailed else SURVIVED


def silence(limit: int) -> None:
    """Make this process a group without output, which ends after so many seconds of work, or ten times as long at rest."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    signal.setitimer(signal.ITIMER_PROF, limit)
    signal.alarm(10 * limit)


def changed_functions(mutant: Mutant) -> dict[CodeType, CodeType]:
    """The code of the functions that the mutant changes, and what it becomes; none if it adds or removes functions."""
    before = list(_codes(compile(parsed(mutant.path), str(mutant.path), "exec")))
    after = list(_codes(compile(mutant.tree(), str(mutant.path), "exec")))
    if len(before) != len(after):
        return {}
    return {old: new for old, new in zip(before, after, strict=True) if old != new and old.co_flags & OPTIMIZED}


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def swapped(path: Path, changed: dict[CodeType, CodeType]) -> bool:
    """Give the functions of a module their new code: true if there was one that takes it."""
    found = False
    for thing in gc.get_objects():
        if isinstance(thing, functools._lru_cache_wrapper):
            thing.cache_clear()
        elif isinstance(thing, FunctionType) and thing.__code__.co_filename == str(path):
            with contextlib.suppress(ValueError):  # a function of another closure
                thing.__code__, found = changed.get(thing.__code__, thing.__code__), found or thing.__code__ in changed
    return found
