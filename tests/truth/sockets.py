"""The wire over real sockets, and a control connection on it: the same generated clients against a real fake."""

from __future__ import annotations

import heapq
import itertools
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

from tests.truth.wire import ROUND_TRIP, START, Reply, Worker

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock
from notnow.journal import Exchange
from notnow.language.loading import loads

LATE = 5.0  # real seconds after which a reply that is due is a failure
QUIET = 0.002  # real seconds in which what the fake has sent is there
_FAKES: dict[str, Any] = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": partial(FakeHTTP, tls="none")}


class SocketWire:
    """A real fake and its clients, who take turns in scenario time. `line` makes a connection."""

    def __init__(self, scenario: str, protocol: str, line: Callable[[SocketWire], Any]) -> None:
        self.scenario, self.line = loads(scenario), line
        self.clock = ManualClock()
        self.clock.advance(START)
        self.fake = _FAKES[protocol](self.scenario, clock=self.clock, seed=1).start()
        self.recorder = SimpleNamespace(journal=self.fake.journal, facts=lambda *_: None)  # the fake records by itself
        self.asked, self.went_on = "", 0

    def run(self, workers: Sequence[Worker]) -> None:
        """Let the workers work, each until it sleeps, in the order in which they wake."""
        order = itertools.count()
        waiting = [(self.clock.now(), next(order), worker) for worker in workers]
        while waiting:
            at, _, worker = heapq.heappop(waiting)
            self.until(at)
            if (pause := next(worker, None)) is not None:
                heapq.heappush(waiting, (self.clock.now() + pause, next(order), worker))
        self.fake.settle()

    def until(self, at: float) -> None:
        if at > self.clock.now():
            self.clock.advance(at - self.clock.now())
            self.fake.settle()

    def connect(self, _kind: Any) -> Any:
        return self.line(self)


@dataclass
class SocketLine:
    """A connection of a client, as `Line` has it."""

    wire: SocketWire
    over: bool = False
    greeting: Reply = field(init=False)
    _data: bytes = b""

    def __post_init__(self) -> None:
        self.wire.asked = "connect"
        self._sock = socket.create_connection((self.wire.fake.host, self.wire.fake.port), LATE)
        self.port: int = self._sock.getsockname()[1]
        self._last: Reply = Reply()
        self.greeting = self._reply()

    def ask(
        self,
        moment: str,
        request: str,
        _healthy: object,
        effect: Callable[[Exchange, bool], None] | None = None,
        known: Any = None,
        **_facts: object,
    ) -> Reply:
        """A command, or a message, and the replies to it."""
        wire = self.wire
        wire.asked = moment
        wire.went_on += moment != "quit" and 421 in self._last.codes
        wire.until(wire.clock.now() + ROUND_TRIP)
        kept = self._kept()
        self._hear(0.0)  # a client reads what stands there before it speaks
        was_over, self._last = self.over, Reply()
        self._send(self._words(moment, request))
        if was_over:
            return Reply(self._lines(), closed=True)
        reply = self._last = self._reply()
        if effect is not None:
            effect(wire.fake.journal.exchanges[-1], self._kept() > kept)
        return reply

    def _kept(self) -> int:
        """How much the fake has stored."""
        return 0

    def _words(self, _moment: str, request: str) -> bytes:
        return f"{request}\r\n".encode()

    def ended(self, _moment: str) -> None:
        """The fake knows by itself."""

    def leave(self) -> None:
        self._sock.close()
        self.over = True
        self.wire.fake.settle()

    # ---- the socket ----------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:
            self.over = True

    def _reply(self) -> Reply:
        """The reply that is due, and what comes with it."""
        while not self.over and not self._complete():
            self._hear(LATE)
        self.wire.fake.settle()
        while not self.over and self._hear(QUIET):
            pass
        return Reply(self._lines(), closed=self.over)

    def _complete(self) -> bool:
        lines = self._data.split(b"\r\n")[:-1]
        return bool(lines) and lines[-1][3:4] != b"-"

    def _lines(self) -> tuple[str, ...]:
        lines, self._data = self._data.decode().split("\r\n")[:-1], b""
        return tuple(lines)

    def _hear(self, patience: float) -> bool:
        """Read what comes within so many real seconds; False if that is nothing."""
        self._sock.settimeout(patience or 0.001)
        try:
            data = self._sock.recv(65536)
        except TimeoutError:
            if patience == LATE:
                raise
            return False
        except OSError:
            data = b""
        self._data += data
        self.over = self.over or not data
        return bool(data)
