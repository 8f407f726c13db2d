"""A network in memory: fakes serve clients without a socket, a thread or a second of real time.

`Offline` is an event loop that ends its run when nothing is left to do, on a clock that the fuzzer moves. A `Wire` takes the
place of an accepted socket: bytes go in, replies come out. So one input takes a few milliseconds, always takes the
same path, and a hang is a count of steps.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import select
import selectors
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from notnow.servers.base import listener, turns
from notnow.servers.base.fake import Fake
from notnow.servers.ftp import data_ports

T = TypeVar("T")
STEPS = 50_000  # turns of the loop for one input; only an endless loop needs more
NUMBERS = itertools.count(1_000_000)  # in place of file descriptors


class Hang(Exception):
    """The fake did not come to rest."""


class Wire:
    """An accepted socket, as the fake uses it, and what its client does with the other end."""

    family = socket.AF_INET

    def __init__(self, port: int = 25) -> None:
        self._number, self._port = next(NUMBERS), port
        self.said, self.heard = bytearray(), bytearray()
        self.ended = self.was_reset = self.shut = self.closed = False
        self.deaf = False  # the client does not read

    # ---- the client's end ------------------------------------------------------------------------

    def say(self, data: bytes) -> None:
        self.said += data

    def end(self) -> None:
        self.ended = True

    def events(self) -> int:
        """What a selector would report."""
        reads = selectors.EVENT_READ if self.said or self.ended or self.was_reset else 0
        return reads | (0 if self.deaf else selectors.EVENT_WRITE)

    # ---- the fake's end: methods of a socket -----------------------------------------------------

    def fileno(self) -> int:
        return -1 if self.closed else self._number

    def recv(self, most: int) -> bytes:
        if self.was_reset:
            raise ConnectionResetError
        if not self.said and not self.ended:
            raise BlockingIOError
        taken = bytes(self.said[:most])
        del self.said[:most]
        return taken

    def recv_into(self, buffer: memoryview) -> int:
        taken = self.recv(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def send(self, data: bytes, flags: int = 0) -> int:
        if self.was_reset:
            raise BrokenPipeError
        if self.deaf:
            raise BlockingIOError
        assert not self.shut, "the fake sends after it has closed its sending side"
        self.heard += data
        return len(data)

    def shutdown(self, how: int) -> None:
        self.shut = True

    def close(self) -> None:
        self.closed = True

    @contextlib.contextmanager
    def dup(self) -> Iterator[Wire]:
        yield self

    def sendall(self, data: bytes) -> None:
        self.send(data)

    def accepted(self) -> Any:
        """What `accept` returns of it."""
        return self

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 40_000

    def setsockopt(self, *_: Any) -> None: ...
    def setblocking(self, flag: bool) -> None: ...


class Pair(Wire):
    """A connection on two real sockets without a network: an `ssl.SSLSocket` takes no other. What one end sends, the other has."""

    def __init__(self) -> None:
        super().__init__()
        self._client, self._fake = socket.socketpair()
        self._client.setblocking(False)
        self._number = self._fake.fileno()

    def say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the fake has left
            self._client.sendall(data)

    def hear(self) -> bool:
        """Read what the fake has sent. False if there is nothing new."""
        before = len(self.heard)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while data := self._client.recv(1 << 20):
                self.heard += data
        return len(self.heard) > before

    def end(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """Close. If the fake has sent what was not read, it is told of a reset."""
        self._client.close()

    def is_over(self) -> bool:
        """True if the fake has closed its end."""
        self.hear()
        try:
            return not self._client.recv(1)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def events(self) -> int:
        reads, writes, _ = select.select([self._number], [self._number], [], 0)
        return selectors.EVENT_READ * bool(reads) | selectors.EVENT_WRITE * bool(writes)

    def accepted(self) -> Any:
        return self._fake


class Port(Wire):
    """A listening socket for data connections; `wires` have connected and were not accepted."""

    def __init__(self) -> None:
        super().__init__(port=next(NUMBERS) % 50_000 + 10_000)
        self.wires: list[Wire] = []

    def listen(self, backlog: int) -> None: ...

    def events(self) -> int:
        return selectors.EVENT_READ if self.wires else 0


class _Selector(selectors.SelectSelector):
    """Reports what is ready on wires, never waits, and has the loop stop when nothing is."""

    loop: Offline
    wires: dict[int, Wire]
    steps = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.steps += 1
        if self.steps > STEPS:
            self.loop.stop()
            return []
        ready = [
            (key, events)
            for fd, key in self.get_map().items()
            if fd in self.wires and (events := key.events & self.wires[fd].events())
        ]
        if not ready and (timeout is None or timeout > 0):
            self.loop.stop()
        return ready


class Offline(asyncio.SelectorEventLoop):
    """A loop with a clock that stands still. `errors` are of callbacks and tasks that nobody awaits."""

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.loop, selector.wires = self, {}
        self._quiet, self._moment = selector, 0.0
        self.errors: list[BaseException] = []
        self.ports: list[Port] = []  # opened for data connections
        self.set_exception_handler(self._failed)
        self.turns = turns.Turns(self)

    def time(self) -> float:
        return getattr(self, "_moment", 0.0)

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, (ConnectionError, TimeoutError)):  # a client has left; see `Runner`
            self.errors.append(error or RuntimeError(str(context.get("message"))))

    def settle(self, _patience: float | None = None) -> None:
        """Run until nothing is left to do. Raises Hang, or the first error of our own."""
        self._quiet.steps = 0
        self.run_forever()
        if self._quiet.steps > STEPS:
            raise Hang(f"the fake is still busy after {STEPS} turns of its loop")
        if self.errors:
            raise self.errors.pop()

    def wait(self, seconds: float) -> None:
        """Let real time pass, which closes linger by."""
        self._moment += seconds
        self.settle()

    def plug(self, wire: Wire) -> None:
        self._quiet.wires[wire.fileno()] = wire

    def clear(self) -> None:
        self._quiet.wires.clear()
        self.ports.clear()
        self.errors.clear()

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Nobody waits where PORT sends the fake, unless an input has opened it."""
        raise ConnectionRefusedError

    # ---- what a bridge asks of its runner --------------------------------------------------------

    @property
    def loop(self) -> Offline:
        return self

    @property
    def hosts(self) -> list[Any]:
        return []

    def hold(self, seconds: float) -> None: ...
    def release(self) -> None: ...

    def call(self, function: Callable[[], T]) -> T:
        return function()

    def run(self, work: Coroutine[Any, Any, T], patience: float = 0) -> T:
        task = self.create_task(work)
        self.settle()
        return task.result()


LOOP = Offline()
atexit.register(LOOP.close)


def _bound(_session: Any) -> tuple[Port, int]:
    port = Port()
    LOOP.plug(port)
    LOOP.ports.append(port)
    return port, port.getsockname()[1]


def _accept(sock: Any, _family: int) -> tuple[Any, Any]:
    if not sock.wires:
        raise BlockingIOError
    wire = sock.wires.pop()
    return wire.accepted(), wire.getpeername()


class _StillTime:
    """No processor time passes: turns end after so many commands or frames, on a busy machine too."""

    @staticmethod
    def thread_time() -> float:
        return 0.0


@contextlib.contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """The fake serves wires; at the end it must have stopped without an error of its own."""
    bridge: Any = fake._bridge
    bridge._runner, bridge.listener = LOOP, _NoListener()
    fake.clock.join(bridge)
    before, data_ports.bound = data_ports.bound, _bound  # type: ignore[assignment]
    accept, listener.accept = listener.accept, _accept
    clock, turns.time = turns.time, _StillTime  # type: ignore[assignment]
    try:
        with _without_sockets():
            bridge.listen(Port())
        yield fake
        _stop(fake)
    finally:
        data_ports.bound, listener.accept, turns.time = before, accept, clock
        fake.clock.part(bridge)
        bridge._runner = None
        LOOP.clear()


@contextlib.contextmanager
def _without_sockets() -> Iterator[None]:
    whole, listener.Listener = listener.Listener, _NoListener  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        listener.Listener = whole  # type: ignore[misc]


class _NoListener:
    def __init__(self, *_: Any) -> None: ...
    def close(self) -> None: ...


def connect(fake: Fake) -> Wire:
    """A client of the fake."""
    wire = Wire()
    LOOP.plug(wire)
    fake._bridge._accept(wire, wire.getpeername())  # type: ignore[arg-type]
    LOOP.settle()
    return wire


def _stop(fake: Fake) -> None:
    """Stop as `Fake.stop` does, with a clock that passes its patience."""
    task = LOOP.create_task(fake._bridge.shut())
    for _ in range(1000):
        LOOP.wait(0.1)
        if task.done():
            break
    task.result()
    fake._bridge.raise_errors()
    assert not fake._bridge.sessions, "a session outlives its fake"
    assert not fake._bridge.tasks, "a task outlives its fake"
