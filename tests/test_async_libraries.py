"""Fakes in the event loops of callers: asyncio's, uvloop's, trio's, and anyio on each."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Awaitable, Callable

import anyio
import pytest
import trio

from notnow import FakeSMTP, WaitTimeoutError

try:
    import uvloop
except ImportError:
    uvloop = None

Program = Callable[[], Awaitable[object]]


def on_uvloop(program: Program) -> None:
    if uvloop is None:
        pytest.skip("uvloop is not installed")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(program())  # type: ignore[arg-type]


RUNS: dict[str, Callable[[Program], None]] = {
    "asyncio": lambda program: asyncio.run(program()),  # type: ignore[arg-type]
    "uvloop": on_uvloop,
    "trio": lambda program: trio.run(program),
    "anyio on asyncio": lambda program: anyio.run(program, backend="asyncio"),
    "anyio on trio": lambda program: anyio.run(program, backend="trio"),
}
everywhere = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def greet(fake: FakeSMTP) -> None:
    with smtplib.SMTP(fake.host, fake.port, timeout=20) as client:
        client.noop()


@everywhere
def test_async_with_and_await_for(run: Callable[[Program], None]) -> None:
    done: list[bool] = []

    async def main() -> None:
        async with FakeSMTP() as fake:
            greet(fake)
            await fake.await_for(lambda journal: journal.count("quit") == 1)
            done.append(fake.running)
        done.append(fake.running)

    run(main)
    assert done == [True, False]


@everywhere
def test_await_for_in_vain(run: Callable[[Program], None]) -> None:
    async def main() -> None:
        async with FakeSMTP() as fake:
            with pytest.raises(WaitTimeoutError, match="in vain"):
                await fake.await_for(lambda journal: False, timeout=0.05)

    run(main)


@everywhere
def test_wait_for_would_block_the_loop_and_is_refused(run: Callable[[Program], None]) -> None:
    async def main() -> None:
        async with FakeSMTP() as fake:
            with pytest.raises(RuntimeError, match="await_for"):
                fake.wait_for(lambda journal: True)

    run(main)


def test_a_wait_that_trio_cancels_ends_in_the_fake_as_well() -> None:
    async def main() -> None:
        async with FakeSMTP() as fake:
            with trio.move_on_after(0.05) as scope:
                await fake.await_for(lambda journal: False, timeout=3600)
            assert scope.cancelled_caught
            while fake.journal._listeners:
                await trio.sleep(0.001)

    trio.run(main)
