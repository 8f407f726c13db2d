"""A fake without sockets: the engine decides, and a recorder writes what an adapter would."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from notnow import ManualClock
from notnow.engine.actions import Action, Close, Hang, Proceed, Response, Script, Send, Wait
from notnow.engine.engine import Engine
from notnow.engine.events import Answered, Asked, Closed, Ended, Event, Leaving, Opened, Tick
from notnow.journal import Connection, ConnectionClose, Exchange, Facts, Recorder
from notnow.language.loading import loads

HOST = "fake.notnow.test"
ROUND_TRIP = 0.001  # scenario seconds that a command and its reply take
START = 1000.0
TICKS = 10_000  # most ticks of the engine in one wait

L = TypeVar("L", bound="Line")
Worker = Generator[float, None, None]  # yields the seconds for which it sleeps
Healthy = Sequence[str] | Callable[[], Sequence[str]]  # the healthy reply, or what is done first to find it


@dataclass(slots=True)
class Reply:
    """What a client reads: lines, if any came, and whether the server closed behind them."""

    lines: tuple[str, ...] = ()
    closed: bool = False
    hung: bool = False

    @property
    def codes(self) -> list[int]:
        """The codes of the replies, in order."""
        return [int(line[:3]) for line in self.lines if line[3:4] != "-"]

    @property
    def code(self) -> int:
        """The code of the first reply; 0 if there is none."""
        return self.codes[0] if self.lines else 0

    @property
    def good(self) -> bool:
        return 200 <= self.code < 400


class Wire:
    """A server and its clients, who take turns in scenario time."""

    def __init__(self, scenario: str, protocol: str) -> None:
        self.scenario, self.protocol = loads(scenario), protocol
        self.clock = ManualClock()
        self.clock.advance(START)
        self.engine = Engine(self.scenario, seed=1, host=HOST)
        self.recorder = Recorder(self.clock, server=protocol, protocol=protocol)
        self.recorder.mark("play", self.scenario.name)
        self.lines: dict[str, Line] = {}
        self.asked = ""  # the moment of what a client said last
        self.went_on = 0  # how often a client said more than QUIT after a 421
        self._ids = itertools.count(1)

    def run(self, workers: Sequence[Worker]) -> None:
        """Let the workers work, each until it sleeps, in the order in which they wake."""
        order = itertools.count()
        waiting = [(self.clock.now(), next(order), worker) for worker in workers]
        while waiting:
            at, _, worker = heapq.heappop(waiting)
            self.until(at)
            pause = next(worker, None)
            if pause is not None:
                heapq.heappush(waiting, (self.clock.now() + pause, next(order), worker))

    def until(self, at: float) -> None:
        """Let time pass, and the engine act when it is due."""
        for _ in range(TICKS):
            due = self.engine.due
            if due is None or due > at:
                break
            self._advance(due)
            self.dispatch(self.engine.feed(Tick(), self.clock.now()))
        self._advance(at)

    def _advance(self, at: float) -> None:
        if at > self.clock.now():
            self.clock.advance(at - self.clock.now())

    def feed(self, event: Event, moment: str) -> Script | None:
        """The script for this event; those for other connections are carried out."""
        phase = self.engine.phase
        scripts = list(self.engine.feed(event, self.clock.now()))
        if self.engine.phase != phase:
            self.recorder.mark("phase", self.engine.phase)
        own = next((s for s in scripts if s.moment == moment and s.conn == getattr(event, "conn", None)), None)
        self.dispatch([s for s in scripts if s is not own])
        return own

    def dispatch(self, scripts: Sequence[Script]) -> None:
        for script in scripts:
            if line := self.lines.get(script.conn):
                line.unasked(script)

    def connect(self, kind: type[L], client: str = "192.0.2.1") -> L:
        return kind(self, f"c{next(self._ids)}", client)


@dataclass(slots=True)
class Line:
    """A connection of a client. `greeting` is the reply to the connection itself."""

    hello: ClassVar[tuple[str, ...]] = ("220 hello",)
    wire: Wire
    id: str
    client: str
    greeting: Reply = field(init=False)
    unread: list[str] = field(default_factory=list)
    over: bool = False
    asking: Exchange = field(init=False)  # the last command that the fake read
    record: Connection = field(init=False)

    def __post_init__(self) -> None:
        wire = self.wire
        self.record = wire.recorder.open(self.id, self.client, 40000)
        wire.lines[self.id] = self
        exchange = wire.recorder.ask(self.record, "connect", "", wire.engine.phase)
        script = wire.feed(Opened(self.id, self.client), "connect")
        assert script is not None, "the engine answers every connection"
        wire.asked = "connect"
        self.greeting = self.perform(script, exchange, self.hello)

    def ask(
        self,
        moment: str,
        request: str,
        healthy: Healthy,
        effect: Callable[[Exchange, bool], None] | None = None,
        known: Facts | None = None,
        **facts: object,
    ) -> Reply:
        """A command and its reply. `effect` is told whether the command takes effect, before the reply.

        `known` is what the journal knows of the command, and `facts` what rules may test.
        """
        wire = self.wire
        wire.asked = moment
        wire.went_on += moment != "quit" and any(421 in x.codes for x in self.record.exchanges[-1:])
        wire.until(wire.clock.now() + ROUND_TRIP)
        if self.over:
            wire.recorder.said_after(self.record, f"{request}\r\n".encode())
            return Reply(tuple(self.unread), closed=True)
        exchange = self.asking = wire.recorder.ask(self.record, moment, request, wire.engine.phase)
        wire.recorder.facts(exchange, known)
        if moment == "quit":
            wire.recorder.leaving(self.record)
            wire.feed(Leaving(self.id), "")
        script = wire.feed(Asked(self.id, moment, {"command": request.partition(" ")[0].upper(), **facts}), moment)
        if script is None:
            script = Script(self.id, (Proceed(),), moment, wire.engine.phase)
        return self.perform(script, exchange, healthy, effect)

    def ended(self, moment: str) -> None:
        """What began at this moment has ended."""
        if not self.over:
            self.wire.feed(Ended(self.id, moment), "")

    def leave(self) -> None:
        """The client closes."""
        if not self.over:
            self.over = True
            self.wire.recorder.close(self.record, "client")
            self.forget()

    def unasked(self, script: Script) -> None:
        """The server speaks, or closes, although nobody asked."""
        if not self.over:
            exchange = self.wire.recorder.ask(self.record, script.moment, "", script.phase)
            self.unread += self.perform(script, exchange, ()).lines

    def perform(
        self,
        script: Script,
        exchange: Exchange,
        healthy: Healthy,
        effect: Callable[[Exchange, bool], None] | None = None,
    ) -> Reply:
        recorder = self.wire.recorder
        recorder.decided(exchange, script)
        reply = Reply()
        if effect is not None:
            effect(exchange, script.proceeds)
        for step in script.steps:
            match step:
                case Proceed(instead):
                    assert not isinstance(instead, Response), "a response is HTTP's"
                    said = tuple(healthy() if callable(healthy) else healthy)
                    if self.over:
                        return Reply((*reply.lines, *said), closed=True)
                    reply = self.say(exchange, script, reply, self.instead_of(said, instead))
                case Send(lines):
                    reply = self.say(exchange, script, reply, lines)
                case Wait(seconds):
                    self.wire.until(self.wire.clock.now() + seconds)
                    if self.over:
                        return Reply(reply.lines, closed=True)
                case Hang():
                    return Reply(reply.lines, hung=True)
                case Close(how):
                    recorder.end(exchange, ConnectionClose(how))
                    recorder.close(self.record, "fake")
                    self.forget()
                    return Reply(reply.lines, closed=True)
                case _:
                    self.act(step, exchange)
        return reply

    def act(self, step: Action, exchange: Exchange) -> None:
        """An action of this protocol."""
        raise AssertionError(f"{step} at {exchange.moment} is not for this wire")

    def instead_of(self, healthy: tuple[str, ...], instead: tuple[str, ...] | None) -> tuple[str, ...]:
        """What is said in place of the healthy reply."""
        return healthy if instead is None else instead

    def say(self, exchange: Exchange, script: Script, before: Reply, lines: tuple[str, ...]) -> Reply:
        if not lines:
            return before
        if script.closes:
            self.wire.recorder.end(exchange)
        self.wire.recorder.answer(exchange, "\n".join(lines))
        code = int(lines[-1][:3])
        if code >= 400 and exchange.moment != "error" and self.wire.engine.has_rules_at("error"):
            added = self.wire.feed(Answered(self.id, code, exchange.request.partition(" ")[0].upper()), "error")
            if added is not None:
                self.unasked(added)
        return Reply((*before.lines, *lines))

    def forget(self) -> None:
        self.over = True
        self.wire.lines.pop(self.id, None)
        self.wire.feed(Closed(self.id), "")
