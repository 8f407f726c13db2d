"""Generated HTTP clients."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st
from tests.truth.truth import Truth
from tests.truth.wire import ROUND_TRIP, Wire

from notnow.engine.actions import Close, Hang, Proceed, ResetStream, Respond, Script, Wait
from notnow.engine.events import Asked, Closed, Ended, Opened
from notnow.http_words import IDEMPOTENT, status_line
from notnow.journal import Connection, ConnectionClose, Exchange, Request, RstStreamFrame

TRIES = 6  # most tries of a request
FINAL = frozenset({403, 404})
UNPROCESSED = "REFUSED_STREAM"


@dataclass(frozen=True, slots=True)
class Call:
    """A request to make. `keyed`: it has an Idempotency-Key."""

    number: int
    method: str
    path: str
    body: str
    keyed: bool

    @property
    def key(self) -> str | None:
        return f"key-{self.number}" if self.keyed else None

    @property
    def repeatable(self) -> bool:
        return self.method in IDEMPOTENT or self.keyed


@dataclass(slots=True)
class Answer:
    """What a client reads: a status, a reset of its stream, or nothing, and whether the server closed behind it."""

    status: int | None = None
    reset: str | None = None
    closed: bool = False
    hung: bool = False

    @property
    def good(self) -> bool:
        return self.status is not None and self.status < 400


class Line:
    """A connection of a client over HTTP/2."""

    def __init__(self, wire: Wire, id: str) -> None:
        self.wire, self.id, self.over, self._stream = wire, id, False, -1
        self._record: Connection = wire.recorder.open(id, "192.0.2.1", 40000)
        exchange = wire.recorder.ask(self._record, "connect", "", wire.engine.phase)
        script = wire.feed(Opened(id, "192.0.2.1"), "connect")
        assert script is not None, "the engine answers every connection"
        self._perform(script, exchange, Answer())

    def ask(self, call: Call, truth: Truth) -> Answer:
        """A request and its answer."""
        wire, self._stream = self.wire, self._stream + 2
        wire.until(wire.clock.now() + ROUND_TRIP)
        exchange = wire.recorder.ask(self._record, "request", f"{call.method} a.test{call.path}", wire.engine.phase)
        wire.recorder.facts(exchange, self._request(call))
        known = {
            "command": call.method,
            "method": call.method,
            "authority": "a.test",
            "host": "a.test",
            "path": call.path,
        }
        script = wire.feed(Asked(self.id, "request", known, self._stream), "request")
        answer = Answer()
        self._perform(script or Script(self.id, (Proceed(),), "request", ""), exchange, answer, call, truth)
        if not self.over:
            wire.feed(Ended(self.id, "request", self._stream), "")
        return answer

    def _request(self, call: Call) -> Request:
        sha256 = hashlib.sha256(call.body.encode()).hexdigest() if call.body else None
        return Request(
            stream=self._stream, version="2", method=call.method, authority="a.test", host="a.test", path=call.path,
            misdirected=(), status=None, body_bytes=len(call.body), body_sha256=sha256, sent=0, whole=False, stored=False,
            idempotency_key=call.key,
        )  # fmt: skip

    def _perform(
        self, script: Script, exchange: Exchange, answer: Answer, call: Call | None = None, truth: Truth | None = None
    ) -> None:
        wire = self.wire
        wire.recorder.decided(exchange, script)
        for step in script.steps:
            match step:
                case Proceed():
                    if call is not None and truth is not None:
                        self._carry_out(exchange, call, truth)
                        self._say(exchange, answer, 200)
                case Respond(response):
                    self._say(exchange, answer, response.status or 200)
                case Wait(seconds):
                    wire.until(wire.clock.now() + seconds)
                case ResetStream(code):
                    wire.recorder.frame(exchange, RstStreamFrame(code, self._stream))
                    answer.reset = code
                case Hang():
                    answer.hung = True
                    return
                case Close(how):
                    wire.recorder.end(exchange, ConnectionClose(how))
                    wire.recorder.close(self._record, "fake")
                    answer.closed = True
                    self._forget()
                    return
                case _:
                    raise AssertionError(f"{step} is not for this wire")

    def _carry_out(self, exchange: Exchange, call: Call, truth: Truth) -> None:
        item = truth.item(call.number)
        if call.method not in IDEMPOTENT:
            self.wire.recorder.more(exchange, stored=True)
            item.copies += 1
            item.spare += item.copies > 1 and not call.keyed

    def _say(self, exchange: Exchange, answer: Answer, status: int) -> None:
        self.wire.recorder.more(exchange, status=status, whole=True)
        self.wire.recorder.answer(exchange, status_line(status))
        answer.status = status

    def leave(self) -> None:
        """The client closes."""
        if not self.over:
            self.wire.recorder.close(self._record, "client")
            self._forget()

    def _forget(self) -> None:
        self.over = True
        self.wire.feed(Closed(self.id), "")


@dataclass(frozen=True, slots=True)
class Program:
    """What an HTTP client does.

    `workers` share the calls. `keeps`: a worker keeps its connection for its next call. `waits` are its pauses between
    tries, the last one for ever after; with none it drops what was deferred. `blind`: it repeats a POST without an answer.
    `exits` is the exit code: "honest" is 75 if something did not come through.
    """

    calls: tuple[Call, ...]
    workers: int = 1
    keeps: bool = False
    waits: tuple[float, ...] = (1.0,)
    blind: bool = False
    exits: Literal["honest", "zero", "alarm"] = "honest"


@dataclass(slots=True)
class Task:
    """A call, and how often it was tried."""

    call: Call
    tries: int = 0


class Client:
    """Plays a program on a wire, and knows the truth of it."""

    def __init__(self, program: Program, wire: Wire) -> None:
        self.program, self.wire, self.truth, self._lines = program, wire, Truth(), 0
        self.tasks = [Task(call) for call in program.calls]
        for call in program.calls:
            self.truth.item(call.number)

    def play(self) -> Truth:
        self.wire.run([self._worker() for _ in range(self.program.workers)])
        truth = self.truth
        unsent = any(not item.accepted and not item.refused for item in truth.items.values())
        truth.exit = {"honest": 75 if unsent else 0, "zero": 0, "alarm": 75}[self.program.exits]
        truth.faults = sum(x.fault is not None for x in self.wire.recorder.journal.exchanges)
        return truth

    def _worker(self) -> Generator[float, None, None]:
        line: Line | None = None
        while self.tasks:
            task = self.tasks.pop(0)
            while True:
                if line is None or line.over:
                    self._lines += 1
                    line = Line(self.wire, f"c{self._lines}")
                sent = not line.over
                answer = line.ask(task.call, self.truth) if sent else Answer(closed=True)
                if answer.hung or not self.program.keeps:
                    line.leave()
                pause = self._after(task, answer, sent)
                if pause is None:
                    break
                yield pause
        if line is not None:
            line.leave()

    def _after(self, task: Task, answer: Answer, sent: bool) -> float | None:
        """The pause before the next try; None if there is none."""
        item, call = self.truth.item(task.call.number), task.call
        if answer.good:
            item.accepted = item.said = True
            item.copies += call.method in IDEMPOTENT
            return None
        if answer.status in FINAL:
            item.refused = True
            return None
        unknown = answer.status is None and answer.reset != UNPROCESSED and sent
        if unknown and not call.repeatable and not self.program.blind:
            item.refused = True  # rightly kept back
            return None
        task.tries += 1
        if not self.program.waits or task.tries >= TRIES:
            item.dropped = True
            item.refused = item.refused or (unknown and not call.repeatable)  # no further try is asked for
            return None
        return self.program.waits[min(task.tries, len(self.program.waits)) - 1]


# ---- strategies ----------------------------------------------------------------------------------


def _calls(drawn: Sequence[tuple[str, bool]]) -> tuple[Call, ...]:
    return tuple(
        Call(n, method, f"/{n}", f"body {n}" if method in ("POST", "PUT") else "", keyed and method == "POST")
        for n, (method, keyed) in enumerate(drawn, 1)
    )


programs: st.SearchStrategy[Program] = st.builds(
    Program,
    calls=st.lists(
        st.tuples(st.sampled_from(("GET", "GET", "PUT", "POST")), st.booleans()), min_size=1, max_size=5
    ).map(_calls),
    workers=st.sampled_from((1, 1, 2, 3)),
    keeps=st.booleans(),
    waits=st.sampled_from(((), (0.1,), (1.0,), (30.0,), (1.0, 2.0, 4.0, 8.0))),
    blind=st.sampled_from((False, False, True)),
    exits=st.sampled_from(("honest", "honest", "zero", "alarm")),
)


def _rule(on: str, condition: str, fault: str) -> str:
    if on == "connect":
        fault = "close = true"
    lines = [f'on = "{on}"', condition, fault]
    return "[[phase.rule]]\n" + "\n".join(line for line in lines if line) + "\n"


def _document(rules: Sequence[str], lasts: str) -> str:
    head = f'protocol = "http"\n\n[[phase]]\nname = "one"\n{lasts}\n'
    healthy = '\n[[phase]]\nname = "healthy"\n' if lasts else ""
    return head + "".join(rules) + healthy + "\n[expect]\ndelivered = { times = 1 }\nno_duplicates = true\n"


_RULES = st.builds(
    _rule,
    st.sampled_from(("request", "request", "request", "connect")),
    st.sampled_from(("", "nth = 1", "nth = 2", "first = 2", "first = 4", "after = 1", "every = 2")),
    st.sampled_from(
        ("status = 503", "status = 429", "status = 421", "status = 404", "close = true", 'reset_stream = "REFUSED_STREAM"',
         'reset_stream = "INTERNAL_ERROR"', "stall = true", 'delay = "5s"')
    ),
)  # fmt: skip

scenarios: st.SearchStrategy[str] = st.builds(
    _document, st.lists(_RULES, max_size=3), st.sampled_from(("", 'lasts = "10s"', 'lasts = "10m"'))
)


def play(program: Program, scenario: str) -> tuple[Wire, Truth]:
    wire = Wire(scenario, "http")
    return wire, Client(program, wire).play()
