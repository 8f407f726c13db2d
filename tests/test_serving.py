"""A coroutine that input carries on, and futures as they do a task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from notnow.servers.base.serving import Serving, more_input


@pytest.fixture
def said() -> list[str]:
    return []


def begun(work: Coroutine[Any, Any, None]) -> Serving:
    serving = Serving(work)
    serving.go_on()
    return serving


def test_input_carries_it_on_at_once(said: list[str]) -> None:
    async def work() -> None:
        said.append("begun")
        await more_input()
        said.append("more")

    serving = begun(work())
    assert (said, serving.listens) == (["begun"], True)
    serving.go_on()
    assert (said, serving.listens) == (["begun", "more"], False)


def test_a_future_carries_it_on_with_its_result_or_its_error(said: list[str]) -> None:
    async def work(good: asyncio.Future[str], bad: asyncio.Future[str]) -> None:
        said.append(await good)
        with pytest.raises(ConnectionError):
            await bad
        said.append("caught")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        good, bad = loop.create_future(), loop.create_future()
        serving = begun(work(good, bad))
        assert not serving.listens
        good.set_result("result")
        bad.set_exception(ConnectionError())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert said == ["result", "caught"]


def test_cancelled_while_it_waits_for_input(said: list[str]) -> None:
    async def work() -> None:
        try:
            await more_input()
        except asyncio.CancelledError:
            said.append("cancelled")
            await more_input()  # once is enough
            said.append("more")

    serving = begun(work())
    serving.cancel()
    assert (said, serving.listens) == (["cancelled"], True)
    serving.go_on()
    assert said == ["cancelled", "more"]


def test_cancelled_while_it_waits_for_a_future(said: list[str]) -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                await future
            except asyncio.CancelledError:
                said.append("cancelled")

        begun(work()).cancel()
        assert future.cancelled()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert said == ["cancelled"]


def test_cancelled_while_it_runs_it_ends_where_it_next_waits(said: list[str]) -> None:
    async def work() -> None:
        await more_input()
        serving.cancel()
        said.append("runs on")
        try:
            await more_input()
        except asyncio.CancelledError:
            said.append("cancelled")

    serving = begun(work())
    serving.go_on()
    assert said == ["runs on", "cancelled"]


def test_an_error_is_the_callers() -> None:
    async def work() -> None:
        await more_input()
        raise ValueError("of ours")

    serving = begun(work())
    with pytest.raises(ValueError, match="of ours"):
        serving.go_on()


def test_the_end_is_the_end() -> None:
    async def work() -> None:
        await more_input()

    serving = begun(work())
    serving.go_on()
    serving.cancel()
    assert not serving.listens
