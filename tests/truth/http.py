"""Generated HTTP clients, over HTTP/2."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import ClassVar

from hypothesis import strategies as st
from tests.truth.client import CONDITIONS, HABITS, LASTS, Client, Habits, Task, document
from tests.truth.properties import Accusation  # noqa: TC002
from tests.truth.truth import Truth  # noqa: TC002
from tests.truth.wire import Line, Wire

from notnow.engine.actions import (
    BEHAVE,
    Close,
    GoAway,
    Hang,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Script,
    Wait,
    Watch,
)
from notnow.engine.events import Answered, Asked, Ended, Leaving, Opened, Reached
from notnow.http_words import status_line
from notnow.journal import ConnectionClose, Exchange, ExcludedByGoAway, GoAwayFrame, Request, RstStreamFrame

SIZE = 100  # bytes of the body of a healthy answer
REPEATABLE = ("GET", "PUT")
FINAL = 400


@dataclass(frozen=True, slots=True)
class Job:
    """A request to make. `marked`: it has an Idempotency-Key."""

    number: int
    method: str
    path: str
    marked: bool

    @property
    def body(self) -> bytes:
        return b"" if self.method == "GET" else f"body {self.number:4}".encode()

    @property
    def key(self) -> str | None:
        return f"key-{self.number}" if self.marked and self.method == "POST" else None

    @property
    def repeatable(self) -> bool:
        return self.method in REPEATABLE or self.key is not None


@dataclass(frozen=True, slots=True)
class Program(Habits):
    """What an HTTP client does; see `Habits`.

    `blind`: it repeats a POST that got no answer. `trusts`: it takes a cut answer for whole. `obeys`: it waits for as long
    as Retry-After says. `stays`: it repeats on the connection on which it was refused.
    """

    jobs: tuple[Job, ...]
    blind: bool = False
    trusts: bool = False
    host: str = "a.test"


@dataclass(slots=True)
class Answer:
    """What a client gets for a request. `unprocessed`: the server has said that it did not carry it out."""

    status: int | None = None
    whole: bool = False
    stored: bool = False
    unprocessed: bool = False


@dataclass(slots=True)
class Stream:
    """A request under way: the byte of each body at which a rule acts."""

    job: Job
    number: int
    exchange: Exchange
    facts: dict[str, object]
    answer: Answer = field(default_factory=Answer)
    watches: dict[str, int] = field(default_factory=dict)
    over: bool = False
    reached: bool = False  # a rule has acted in the middle of a body


@dataclass(slots=True)
class HTTPLine(Line):
    """A connection of HTTP/2 that carries one stream at a time."""

    hello: ClassVar[tuple[str, ...]] = ()
    streams: int = 0
    last: int | None = None  # of the GOAWAY that was sent
    closing: bool = False
    opening: Script | None = None
    standing: Response | None = None  # answers every request

    def __post_init__(self) -> None:
        wire = self.wire
        self.record = wire.recorder.open(self.id, self.client, 40000)
        wire.lines[self.id] = self  # type: ignore[assignment]
        wire.asked = "connect"
        exchange = wire.recorder.ask(self.record, "connect", "", wire.engine.phase)
        self.opening = wire.feed(Opened(self.id, self.client), "connect")
        assert self.opening is not None
        wire.recorder.decided(exchange, self.opening)
        for step in self.opening.steps:
            match step:
                case Respond(response) | Proceed(Response() as response):
                    self.standing = response
                case Close(how) if self.standing is None:
                    self.part(how, exchange)
                case Wait(seconds):
                    wire.until(wire.clock.now() + seconds)
                case _:
                    pass

    def request(self, job: Job, host: str) -> Answer:
        wire, target = self.wire, f"{job.method} {host}{job.path}"
        wire.asked = "request"
        wire.until(wire.clock.now() + 0.001)
        if self.over:
            key = f"idempotency-key: {job.key}\r\n" if job.key else ""
            said = f"{job.method} {job.path} HTTP/2\r\nhost: {host}\r\n{key}\r\n"
            wire.recorder.said_after(self.record, said.encode())
            return Answer(unprocessed=bool(self.record.goaways))
        number, self.streams = self.streams * 2 + 1, self.streams + 1
        exchange = self.asking = wire.recorder.ask(self.record, "request", target, wire.engine.phase)
        wire.recorder.facts(exchange, self._known(job, number, host))
        facts: dict[str, object] = {"command": job.method, "method": job.method, "authority": host, "path": job.path}
        stream = Stream(job, number, exchange, {**facts, "size": len(job.body) or None, "header": {}, "host": host})
        self._carry_out(stream)
        return stream.answer

    def _known(self, job: Job, number: int, host: str) -> Request:
        sha256 = hashlib.sha256(job.body).hexdigest() if job.body else None
        return Request(
            stream=number,
            version="2",
            method=job.method,
            authority=host,
            host=host,
            path=job.path,
            misdirected=(),
            status=None,
            body_bytes=len(job.body),
            body_sha256=sha256,
            sent=0,
            whole=False,
            stored=False,
            idempotency_key=job.key,
        )

    def _carry_out(self, stream: Stream) -> None:
        wire, exchange = self.wire, stream.exchange
        if self.standing is not None:
            assert self.opening is not None
            wire.recorder.decided(exchange, self.opening)
            self.closing = self.closing or self.opening.closes
            self._respond(stream, self.standing)
        else:
            script = wire.feed(Asked(self.id, "request", stream.facts, stream.number), "request")
            if script is not None:
                self.closing = self.closing or script.closes
                self._perform(script, stream)
        if not self.over:
            wire.feed(Ended(self.id, "request", stream.number), "")
        if self.closing and not self.over:
            self.part("fin", exchange)

    def _perform(self, script: Script, stream: Stream) -> None:  # noqa: C901 (a case for each action)
        recorder, exchange = self.wire.recorder, stream.exchange
        if script.fault is not None or exchange.fault is None:
            recorder.decided(exchange, script)
        for step in script.steps:
            if self.over or stream.over:
                return
            match step:
                case Proceed(instead):
                    assert not (isinstance(instead, tuple) and instead), "reply lines are not HTTP's"
                    if script.moment == "response":
                        self._start(stream, instead if isinstance(instead, Response) else None, says=instead != ())
                    else:
                        self._app(stream, instead if isinstance(instead, Response) else None, says=instead != ())
                case Respond(response):
                    self._respond(stream, response)
                case Wait(seconds):
                    self.wire.until(self.wire.clock.now() + seconds)
                case Hang():
                    stream.over = True
                case Watch(size):
                    stream.watches[script.moment] = size
                case ResetStream(code):
                    if script.moment == "request" and not script.proceeds and not stream.reached:
                        recorder.more(exchange, body_bytes=0, body_sha256=None)  # the reset comes before its body
                    recorder.frame(exchange, RstStreamFrame(code, stream.number))
                    stream.answer.unprocessed = code == "REFUSED_STREAM"
                    stream.over = True
                case GoAway():
                    self._go_away(step, stream)
                case Close(how):
                    self.part(how, exchange)
                case _:
                    raise AssertionError(f"{step} is not for this wire")

    def _app(self, stream: Stream, instead: Response | None, *, says: bool) -> None:
        """The app carries out a request, unless a rule acts in the middle of its body."""
        watched = stream.watches.pop("request", None)
        if watched is not None and len(stream.job.body) >= watched:
            self._reached("request", stream)
            if self.over or stream.over or stream.answer.status is not None:
                return
        if stream.job.method == "POST":
            self.wire.recorder.more(stream.exchange, stored=True)
            stream.answer.stored = True
        if not says:
            return
        script = self.wire.feed(Asked(self.id, "response", stream.facts, stream.number), "response")
        if script is None or script.steps is BEHAVE:
            self._start(stream, instead, says=True)
        else:
            self.closing = self.closing or script.closes
            self._perform(script, stream)

    def _start(self, stream: Stream, instead: Response | None, *, says: bool) -> None:
        """Send the answer of the app."""
        if says and instead is not None:
            self._respond(stream, instead)
        elif says:
            self._send(stream, 200, SIZE)

    def _respond(self, stream: Stream, response: Response) -> None:
        headers = dict(response.headers)
        self._send(stream, response.status or 200, len(response.body or ""), headers.get("retry-after"))

    def _send(self, stream: Stream, status: int, length: int, retry_after: str | None = None) -> None:
        recorder, exchange, answer = self.wire.recorder, stream.exchange, stream.answer
        answer.status = status
        recorder.more(exchange, status=status, length=length, retry_after=retry_after)
        recorder.answer(exchange, status_line(status))
        watched = stream.watches.pop("response", None)
        if watched is not None and watched <= length:
            recorder.more(exchange, sent=watched)
            self._reached("response", stream)
            if self.over or stream.over:
                return
        recorder.more(exchange, sent=length, whole=True)
        answer.whole = stream.over = True
        if status >= FINAL and self.wire.engine.has_rules_at("error"):
            self.wire.feed(Answered(self.id, status, stream.job.method), "error")

    def _reached(self, moment: str, stream: Stream) -> None:
        stream.reached = True
        script = self.wire.feed(Reached(self.id, stream.number), moment)
        if script is not None:
            self._perform(script, stream)

    def _go_away(self, step: GoAway, stream: Stream) -> None:
        self.closing = self.closing or step.closes
        wanted = stream.number - 2 if step.last == "previous" else stream.number
        self.last = max(0, wanted) if self.last is None else min(self.last, max(0, wanted))
        self.wire.recorder.frame(stream.exchange, GoAwayFrame(step.code, self.last))
        if stream.number > self.last:
            self.wire.recorder.end(stream.exchange, ExcludedByGoAway())
            stream.answer.unprocessed = stream.over = True

    def part(self, how: str, exchange: Exchange) -> None:
        """The server closes: a FIN comes after a GOAWAY."""
        recorder = self.wire.recorder
        if how == "fin" and self.last is None and self.streams:
            self.last = self.streams * 2 - 1
            recorder.goaway(self.record, GoAwayFrame("NO_ERROR", self.last), exchange)
        recorder.end(exchange, ConnectionClose(how))  # type: ignore[arg-type]
        recorder.close(self.record, "fake")
        self.forget()

    def unasked(self, script: Script) -> None:
        if not self.over:
            exchange = self.wire.recorder.ask(self.record, script.moment, "", script.phase)
            self.wire.recorder.decided(exchange, script)
            for step in script.steps:
                if isinstance(step, Close):
                    self.part(step.how, exchange)

    def leaves(self) -> None:
        """The client ends its side."""
        if not self.over:
            self.wire.recorder.leaving(self.record)
            self.wire.feed(Leaving(self.id), "")
            self.leave()


@dataclass
class HTTPClient(Client[Program, HTTPLine]):
    """Plays a program."""

    def __post_init__(self) -> None:
        self.tasks = [Task(job, [job.number]) for job in self.program.jobs]

    def quit(self, line: HTTPLine) -> None:
        line.leaves()

    def begin(self, line: HTTPLine | None, task: Task) -> HTTPLine | None:
        job: Job = task.what
        self.tries(task, named=line is not None)
        if line is None:
            line = self.wire.connect(HTTPLine)
        before, over = self.truth.item(job.number), line.over
        before.shown = [(one.method, one.path) for one in self.program.jobs].count((job.method, job.path)) == 1
        answer = line.request(job, self.program.host)
        self._note(job, answer)
        if answer.status is not None and answer.status < FINAL and (answer.whole or self.program.trusts):
            before.dropped = before.dropped or not answer.whole
            self.succeeds(task, list(task.left))
        elif answer.status is not None and not _for_now(answer.status):
            self.refused(task, list(task.left))
        else:
            self.fails(list(task.left), named=not over)
            keyless = not job.repeatable or (over and job.method == "POST")  # after a close, the key is not noted
            before.unsure = answer.status is None and not answer.unprocessed and keyless
            if answer.status is None and not answer.unprocessed and not self._may_repeat(job):
                self._keep_back(task)
        if line.over or line.last is not None or (answer.status is None and not answer.unprocessed):
            line.leaves()
            return None
        return line

    def _note(self, job: Job, answer: Answer) -> None:
        item = self.truth.item(job.number)
        got = answer.status is not None and answer.status < FINAL and answer.whole
        if answer.stored if job.method == "POST" else got:
            item.copies += 1
            item.spare += item.copies > 1 and not job.repeatable
        item.said = item.said or got

    def drop(self, task: Task, *, sure: bool = False) -> None:
        """A client that does not repeat a POST without an answer does right, though it has repeated it before."""
        for key in task.left:
            item = self.truth.item(key)
            item.kept_back = item.kept_back or item.unsure
        super().drop(task, sure=sure)

    def _may_repeat(self, job: Job) -> bool:
        return job.repeatable or self.program.blind

    def _keep_back(self, task: Task) -> None:
        """The client rightly does not repeat a POST that may have been carried out (RFC 9110 §9.2.2)."""
        for key in task.left:
            self.truth.item(key).kept_back = True
        task.left.clear()


def _for_now(status: int) -> bool:
    return status in (408, 421, 425, 429) or status >= 500


# ---- strategies ----------------------------------------------------------------------------------

jobs: st.SearchStrategy[tuple[Job, ...]] = st.lists(
    st.tuples(
        st.sampled_from(("GET", "GET", "POST", "PUT")), st.sampled_from(("/a", "/b", "/own")), st.booleans()
    ),
    min_size=1,
    max_size=4,
).map(
    lambda drawn: tuple(
        Job(i, method, f"/{i}" if path == "/own" else path, marked) for i, (method, path, marked) in enumerate(drawn, 1)
    )
)  # fmt: skip

programs: st.SearchStrategy[Program] = st.builds(
    Program,
    jobs=jobs,
    gives_up=st.sampled_from(("", "", "", "request")),
    blind=st.sampled_from((False, False, True)),
    trusts=st.sampled_from((False, False, False, True)),
    **HABITS,
)

_FAULTS = (
    "status = 421",
    "status = 503",
    'status = 503\nheaders = { retry-after = "30" }',
    'status = 429\nheaders = { retry-after = "5" }',
    "status = 404",
    "status = 500\nkeep = true",
    "close = true",
    'close = "reset"',
    'goaway = { last = "previous" }',
    "goaway = {}",
    'reset_stream = "REFUSED_STREAM"',
    'reset_stream = "INTERNAL_ERROR"',
    "after_bytes = 5\nclose = true",
    'after_bytes = 50\nreset_stream = "CANCEL"',
    'delay = "20s"',
)


def _rule(on: str, condition: str, where: str, fault: str) -> str:
    """A rule that the grammar allows: what a moment does not have is left out."""
    if on == "idle":
        condition, where, fault = 'after = "300s"', "", "close = true"
    if on == "connect":
        where = ""
        fault = (
            fault if fault.startswith(("status = 5", "status = 42", "close")) and "keep" not in fault else _FAULTS[1]
        )
    if "keep" in fault and on not in ("request", "any"):
        fault = _FAULTS[1]
    if on == "response" and "previous" in fault:
        fault = "close = true"
    return "\n".join(line for line in (f'on = "{on}"', condition, where, fault) if line) + "\n"


_rules = st.builds(
    _rule,
    st.sampled_from(("request", "request", "response", "response", "connect", "any", "idle")),
    st.sampled_from(CONDITIONS),
    st.sampled_from(("", "", 'where = { method = "POST" }', 'where = { path = "/a" }')),
    st.sampled_from(_FAULTS),
)

scenarios: st.SearchStrategy[str] = st.builds(
    document, st.just("http"), st.lists(_rules, max_size=3), st.sampled_from(LASTS)
)


def mirror(program: Program, scenario: str) -> tuple[Program, str]:
    """The same client and scenario under other names."""
    jobs = tuple(replace(job, path=f"/x{job.path}", number=job.number + 40) for job in program.jobs)
    return replace(program, jobs=jobs, host="other.test"), scenario.replace('"/a"', '"/x/a"')


def has_twins(program: Program) -> bool:
    """True if two requests have the same method and path."""
    return len({(job.method, job.path) for job in program.jobs}) < len(program.jobs)


# A rule of HTTP that is broken, and what is true of a client that broke it.
ACCUSATIONS: dict[str, Accusation] = {
    "http.no-blind-post": lambda program, _: program.blind,
    "http.no-second-blind-retry": lambda program, _: True,
    "http.retry-after": lambda program, _: min(program.waits, default=60.0) < 30.0,
    "http.retry-budget": lambda program, _: min(program.waits, default=60.0) < 60.0,
    "http.retry-once": lambda program, _: bool(program.waits),  # each of these clients asks again after any 421
    "http.retry-elsewhere": lambda program, _: program.keeps,
    "http.final-is-final": lambda _, truth: any(item.repeated for item in truth.items.values()),
}
NEEDS_NO_FAULT = frozenset({"http.in-step"})


def play(program: Program, scenario: str) -> tuple[Wire, Truth]:
    wire = Wire(scenario, "http")
    return wire, HTTPClient(program, wire).play()
