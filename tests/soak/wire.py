"""A relay in front of a fake: what passes between clients and the fake, connection by connection, whatever client it is.

It reads all that the fake says, also where the client has gone: so each reply of the journal has to have passed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

HOST = "127.0.0.1"
_REPLY = re.compile(rb"^([0-9]{3})(?!-)", re.MULTILINE)


@dataclass
class Passed:
    """A connection: the port that the fake sees, and what the fake has said."""

    port: int
    said: bytearray = field(default_factory=bytearray)
    down: int = 0  # bytes from the fake
    up: int = 0

    def codes(self) -> Counter[int]:
        """The codes of the replies, of a protocol in lines."""
        return Counter(int(code) for code in _REPLY.findall(self.said))


class Wire:
    """The connections to one fake. `readable`: the protocol is in clear text, and what the fake says is kept."""

    def __init__(self, port: int, readable: bool) -> None:
        self._port, self._readable = port, readable
        self.passed: list[Passed] = []
        self.live = 0
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.port = 0

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._relay, HOST, 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.live += 1
        task = asyncio.current_task()
        self._tasks.add(task)  # asyncio keeps only weak references, and a connection that is lost none
        try:
            with socket.socket() as sock:
                await self._connect(sock, reader, writer)
        finally:
            self.live -= 1
            self._tasks.discard(task)

    async def _connect(self, sock: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock.setblocking(False)
        sock.bind((HOST, 0))  # the port is known even if the fake resets the connection at once
        passed = Passed(sock.getsockname()[1])
        self.passed.append(passed)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (HOST, self._port))
        except OSError:
            writer.close()
            return
        down, up = await asyncio.open_connection(sock=sock)
        await asyncio.gather(self._up(passed, reader, up), self._down(passed, down, writer))
        up.close()
        with contextlib.suppress(OSError):
            await up.wait_closed()

    async def _up(self, passed: Passed, reader: asyncio.StreamReader, up: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                passed.up += len(data)
                up.write(data)
                await up.drain()
        with contextlib.suppress(OSError, RuntimeError):
            up.write_eof()  # the fake may still have something to say

    async def _down(self, passed: Passed, down: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await down.read(65536):
                passed.down += len(data)
                if self._readable:
                    passed.said += data
                with contextlib.suppress(OSError):
                    writer.write(data)
                    await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Relay:
    """A thread with the wires of several fakes."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._servers: list[asyncio.Server] = []
        self._wires: list[Wire] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def before(self, port: int, readable: bool) -> Wire:
        """A wire to this port of a fake."""
        wire = Wire(port, readable)
        self._wires.append(wire)
        self._servers.append(asyncio.run_coroutine_threadsafe(wire.listen(), self._loop).result(30))
        return wire

    def forget(self, wire: Wire) -> None:
        """Drop what has passed on a wire without live connections."""
        self.call(wire.passed.clear)

    def call(self, work: Callable[[], object]) -> None:
        async def once() -> None:
            work()

        asyncio.run_coroutine_threadsafe(once(), self._loop).result(30)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()
        while any(wire.live for wire in self._wires):
            await asyncio.sleep(0.005)
