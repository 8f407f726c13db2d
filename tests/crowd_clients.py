"""A crowd of real SMTP clients in one event loop, each with a message to deliver, for comparisons with simulated crowds.

A client behaves as those of `notnow.chaos.storm` do: it waits `timeout` seconds for its turn, and after a failed attempt for
as long as its policy says. Its waits are asyncio's, so that under fast_forward they take scenario time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from random import Random

from notnow.chaos.crowd.simulation import ROUND_TRIP
from notnow.chaos.policies import Policy

MESSAGE = b"MAIL FROM:<a@x.test>", b"RCPT TO:<b@y.test>", b"DATA", b"Subject: hi\r\n\r\nhello\r\n.", b"QUIT"


class RefusedError(Exception):
    """The server said that it has no time now."""


@dataclass
class Crowd:
    """What became of the messages of a crowd: the times of `attempts`, and when messages were `through` or given up.

    Times are in seconds since its start.
    """

    host: str
    port: int
    policy: Policy
    timeout: float
    seed: int
    attempts: list[float] = field(default_factory=list)
    through: list[float] = field(default_factory=list)
    gave_up: list[float] = field(default_factory=list)
    refused: int = 0
    abandoned: int = 0

    def run(self, clients: int, spread: float) -> Crowd:
        """Let so many clients come at random times within `spread` seconds, and wait for the last of them."""
        come, self._chance = Random(f"{self.seed} come"), Random(f"{self.seed} waits")
        times = [come.uniform(0, spread) for _ in range(clients)]
        self._start = time.monotonic()
        asyncio.run(self._all(times))
        return self

    def __str__(self) -> str:
        """The figures in one line."""
        return (
            f"{len(self.through)} through, {len(self.gave_up)} given up, {len(self.attempts)} attempts, {self.refused} refused, "
            f"{self.abandoned} timed out, at most {peak(self.attempts)} in a second, the last at {self.settled:.6f}s"
        )

    @property
    def settled(self) -> float:
        """When the last message was through or given up."""
        return max(self.through + self.gave_up)

    async def _all(self, times: list[float]) -> None:
        async with asyncio.TaskGroup() as group:
            for at in times:
                group.create_task(self._client(at))

    def _now(self) -> float:
        return time.monotonic() - self._start

    async def _client(self, at: float) -> None:
        await asyncio.sleep(at)
        wait = 0.0
        for attempt in range(1, 10_000):
            if await self._attempt():
                return
            if self.policy.gives_up(attempt, self._now() - at):
                self.gave_up.append(self._now())
                return
            wait = self.policy.wait.seconds(attempt, wait, self._chance)
            await asyncio.sleep(wait)

    async def _attempt(self) -> bool:
        self.attempts.append(self._now())
        try:
            await self._deliver()
        except RefusedError:
            self.refused += 1
            await asyncio.sleep(ROUND_TRIP)
        except TimeoutError:
            self.abandoned += 1
        else:
            self.through.append(self._now())
            return True
        return False

    async def _deliver(self) -> None:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            async with asyncio.timeout(self.timeout):
                await _reply(reader)
                for line in (b"HELO x.test", *MESSAGE):
                    writer.write(line + b"\r\n")
                    await _reply(reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _reply(reader: asyncio.StreamReader) -> None:
    line = await reader.readline()
    if line[:1] not in (b"2", b"3"):
        raise RefusedError(line)


def peak(times: list[float]) -> int:
    """The most of these times within a second."""
    times, first, most = sorted(times), 0, 0
    for n, at in enumerate(times):
        while at - times[first] >= 1:
            first += 1
        most = max(most, n - first + 1)
    return most
