"""The end of fakes: those that stop together say goodbye together, and their clients have one GRACE to read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Protocol

from notnow import environment
from notnow.clock import Clock, Timed
from notnow.errors import FakeError
from notnow.servers.base.peace import in_peace
from notnow.servers.base.runner import Runner
from notnow.servers.base.services import collector_held
from notnow.servers.base.sharing import Sharing


class Bridge(Timed, Protocol):
    """The bridge of a fake, as far as its end needs it."""

    sharing: Sharing

    kept: Runner | None

    @property
    def prompt(self) -> bool: ...
    @property
    def sessions(self) -> Mapping[str, object]: ...
    @property
    def runner(self) -> Runner: ...
    def close_unused(self) -> bool: ...
    async def shut(self) -> None: ...
    def leave(self) -> None: ...
    def failed(self, error: BaseException, /) -> None: ...
    def raise_errors(self) -> None: ...


class Fake(Protocol):
    """A fake, as far as its end needs it."""

    clock: Clock

    @property
    def running(self) -> bool: ...
    @property
    def _bridge(self) -> Bridge: ...


def stop_all(fakes: Iterable[Fake]) -> None:
    """Stop these fakes together; `Fake.stop` stops one. Those that do not run stay as they are.

    Raises FakeError if our own code, or the user's, has failed in any: that of the first, with the others as its notes.
    """
    stopped = [fake for fake in fakes if fake.running]
    try:
        end_all(stopped)
    except BaseException:
        end_all(stopped)  # a Ctrl-C came before the work had begun
        raise
    errors = [error for fake in stopped if (error := _error_of(fake)) is not None]
    if errors:
        for other in errors[1:]:
            errors[0].add_note(str(other))
        raise errors[0]


def _error_of(fake: Fake) -> BaseException | None:
    try:
        fake._bridge.raise_errors()
    except BaseException as error:
        return error
    return None


@contextmanager
def all_stopped(fakes: Sequence[Fake]) -> Iterator[None]:
    """Stop those of these fakes that run at the end of the block. An error of the block is raised, theirs are its notes."""
    try:
        yield
    except BaseException as error:
        try:
            stop_all(fakes)
        except FakeError as ours:
            error.add_note(str(ours))
        raise
    stop_all(fakes)


def end_all(fakes: Iterable[Fake]) -> None:
    """End those of these fakes that run, and raise none of their errors. A Ctrl-C does not interrupt it."""
    running = [fake for fake in fakes if fake.running]
    if (runner := _keeper(running)) is not None:
        if left := [fake for fake in running if not _ended_unused(fake)]:
            runner.run_in_peace(_end_in_loop(left))
    elif running:
        undisturbed(running, lambda: _end(running))


def undisturbed(fakes: Sequence[Fake], work: Callable[[], None]) -> None:
    """Do work for these fakes that a Ctrl-C does not interrupt. Under fast_forward this thread does it: its waits are known there."""
    if any(map(_in_fast_forward, fakes)):
        work()
    else:
        in_peace(work)


def _in_fast_forward(fake: Fake) -> bool:
    return getattr(fake.clock, "world", None) is not None


def _keeper(fakes: Sequence[Fake]) -> Runner | None:
    """The runner of these fakes, if its thread may end them all: two turns of threads in place of four, and none is started."""
    runners = {fake._bridge.kept if fake._bridge.prompt else None for fake in fakes}
    runner = runners.pop() if len(runners) == 1 else None
    return None if runner is None or runner.is_current or any(map(_in_fast_forward, fakes)) else runner


def _end(fakes: Sequence[Fake]) -> None:
    if any(fake._bridge.runner.is_current for fake in fakes):  # in a listener, say: all go on
        raise RuntimeError("a fake cannot be stopped in the fakes' own thread: it would wait for itself")
    _sign_off(fakes)
    close_all([fake._bridge for fake in fakes])


def _ended_unused(fake: Fake) -> bool:
    """End a fake that no client has found, here: wherever a Ctrl-C comes, it can be ended once more. False for any other."""
    if not fake._bridge.close_unused():
        return False
    _sign_off([fake])
    fake._bridge.leave()
    return True


async def _end_in_loop(fakes: Sequence[Fake]) -> None:
    _sign_off(fakes)
    await _shut([fake._bridge for fake in fakes])
    for fake in fakes:
        fake._bridge.leave()


def _sign_off(fakes: Sequence[Fake]) -> None:
    for fake in fakes:
        environment.current.stopped(fake)
        fake.clock.part(fake._bridge)


def close_all(bridges: Sequence[Bridge]) -> None:
    """Say goodbye to all clients of these bridges, and close everything. What has failed is in their `errors` then."""
    loops: dict[Runner, list[Bridge]] = {}
    with ExitStack() as after:  # last things first, and each whatever becomes of the others
        for bridge in bridges:
            after.callback(bridge.leave)
            loops.setdefault(bridge.runner, []).append(bridge)
        for bridge in bridges:
            after.callback(bridge.sharing.finish)
        for runner, those in loops.items():
            after.callback(partial(_shut_in, runner, those))


def _shut_in(runner: Runner, bridges: Sequence[Bridge]) -> None:
    runner.run(_shut(bridges))


async def _shut(bridges: Sequence[Bridge]) -> None:
    with collector_held(sum(len(bridge.sessions) for bridge in bridges)):
        if len(bridges) == 1:  # without a task of its own
            await _shut_one(bridges[0])
        else:
            await asyncio.gather(*map(_shut_one, bridges))


async def _shut_one(bridge: Bridge) -> None:
    try:
        await bridge.shut()
    except BaseException as error:
        bridge.failed(error)
