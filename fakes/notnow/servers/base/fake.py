"""What every fake has: a scenario on an engine, a journal, a clock, and a life in the runner's loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import ssl
import threading
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from notnow import environment, true_time
from notnow.clock import Cancellable
from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions
from notnow.engine.actions import Close, Script, Send
from notnow.engine.engine import Engine
from notnow.engine.events import Closed, Event, Hello, Leaving, Opened, Tick
from notnow.errors import FakeError, Problem, ScenarioError, WaitTimeoutError, nearest
from notnow.hosts import bracketed
from notnow.journal import TLS, Connection, Entry, Exchange, Journal
from notnow.language import catalogue
from notnow.language.scenario import Scenario
from notnow.servers.base import async_libraries, guests, listener
from notnow.servers.base.options import Options
from notnow.servers.base.peace import in_peace
from notnow.servers.base.runner import Runner
from notnow.servers.base.session import Session
from notnow.servers.base.turns import Turns

HOSTNAME = "fake.notnow.test"  # what the fakes call themselves (RFC 6761: .test is nobody's)
GRACE = 0.2  # real seconds that clients have for reading their goodbye when a fake stops
_START = "use it in a `with` block, or call start()"
PATIENCE = 5.0  # real seconds for closing everything; only a bug of ours takes longer
POLL = 0.02  # real seconds after which a waiting predicate is asked again, whatever the journal says


def _waitable(predicate: object, timeout: object) -> float:
    """The time-out of `wait_for`, in seconds. Raises TypeError or ValueError, naming the argument that cannot be."""
    if not callable(predicate):
        allowed = 'a function of the journal, such as lambda journal: journal.count("connect")'
        raise TypeError(f"predicate is {predicate!r}; allowed: {allowed}")
    return arguments.time("timeout", timeout)


class Fake(Assertions):
    """A server of ours that plays a scenario.

    Use it as a context manager, plain or async, or call `start` and `stop`. It lives in a thread of its
    own (shared by all fakes of the process), so plain and asynchronous clients may use it alike.
    """

    protocol: ClassVar[str]
    allowed: ClassVar[frozenset[str]] = frozenset({"clock", "seed", "host", "port", "tls", "users", "journal_limit"})
    alpn: ClassVar[tuple[str, ...]] = ()  # the protocols that it speaks in TLS (RFC 7301)

    def __init__(self, scenario: str | Path | Scenario | None = None, /, *, name: str = "", **given: Any) -> None:
        """`scenario` is a name of the catalogue, a path, or a Scenario; nothing is a healthy server.

        Server options are `clock seed host port tls users journal_limit`; every other keyword is a knob of
        the scenario. Raises ScenarioError for one that is unknown or does not hold.
        """
        self.options = Options(self.protocol, self.allowed, environment.settings(given))
        self.name = name or self.protocol
        self.clock = self.options.clock
        self.seed = self.options.seed
        self.hostname = HOSTNAME
        self.host, self.port = self.options.host, self.options.port
        self.errors: list[BaseException] = []
        self._strays: list[BaseException] = []  # what the user's own code has raised, and nobody was told of
        self.find: Callable[..., Scenario] = catalogue.scenario  # how `play` finds a scenario by its name
        self.scenario = self._resolve(scenario, self.options.knobs)
        self.journal = Journal(self.clock, server=self.name, protocol=self.protocol, limit=self.options.journal_limit)
        self.journal.on_failure = self.guest_failed
        self._engine = Engine(self.scenario, seed=self.seed, host=self.hostname, epoch=self.clock.epoch)
        self._sessions: dict[str, Session] = {}
        self._ids = itertools.count(1)
        self._uid = secrets.token_hex(4)
        self._tasks: set[asyncio.Task[None]] = set()
        self.ports: set[int] = set()  # where its sockets are
        self.waited_for = 0  # how many predicates are being waited for
        self._runner: Runner | None = None
        self._alarm: Cancellable | None = None
        self._alarm_at: float | None = None

    def _resolve(self, scenario: str | Path | Scenario | None, values: Mapping[str, Any]) -> Scenario:
        if isinstance(scenario, Scenario):
            found = scenario.with_knobs(**values)
        elif scenario is None and values:
            raise ScenarioError([_for_no_scenario(self.protocol, next(iter(values)), self.allowed)])
        else:
            found = self.find(str(scenario or f"{self.protocol}/healthy"), **values)
        if found.protocol != self.protocol:
            problem = Problem(f"{found.name!r} is a scenario for {found.protocol}", allowed=f"one for {self.protocol}")
            raise ScenarioError([problem])
        catalogue.tell(found, self.options.given)
        return found

    # ---- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen. When this returns, clients can connect. Raises StartError if the address is taken."""
        if self._runner is not None:
            return self
        try:
            self._in_peace(self._start)
            return self
        except BaseException:  # a Ctrl-C, perhaps when it had just begun
            self._abandon()
            raise

    def _in_peace(self, work: Callable[[], None]) -> None:
        """Undisturbed by a Ctrl-C; under fast_forward in this very thread, whose waits are known there."""
        if getattr(self.clock, "world", None) is None:
            in_peace(work)
        else:
            work()

    def _abandon(self) -> None:
        if self._runner is not None:
            self._in_peace(self._stop)

    def _start(self) -> None:
        sock = listener.bind(self.host, self.port)
        try:
            self._runner = Runner.acquire()
            self._prepare()
            self._runner.call(lambda: self._listen(sock))
        except BaseException:
            sock.close()
            self._release()
            raise
        self.clock.join(self)
        environment.current.started(self)

    def _prepare(self) -> None:
        """What has to be there before clients may come."""

    def _listen(self, sock: socket.socket) -> None:
        self._lingering = listener.LingeringClose(self.loop, self.heard_after, self.connection_closed)
        self._listener = listener.Listener(self.loop, sock, self._accept, lambda: not self._sessions)
        self.port = self._engine.port = self._listener.port
        self.ports.add(self.port)
        self.journal.mark("play", self.scenario.name)

    def stop(self) -> None:
        """Say goodbye to live clients, close everything, and raise FakeError if our own code has failed."""
        if self._runner is None:
            return
        try:
            self._in_peace(self._stop)
        except BaseException:
            self._abandon()  # where a Ctrl-C came before it had begun
            raise
        self.raise_errors()

    def _stop(self) -> None:
        environment.current.stopped(self)
        self.clock.part(self)
        assert self._runner is not None
        try:
            self._runner.run(self._shut())
        finally:
            self.errors += self._runner.errors
            self._runner.errors.clear()
            self._release()

    def _release(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.release()

    def raise_errors(self) -> None:
        """Raise FakeError if our own code has failed since the last call, or code of the user that we have called.

        An outcome of pytest that such code has raised (`pytest.fail`, `pytest.skip`) is raised as it is.
        """
        self.raise_strays()
        if self.errors:
            errors, self.errors = self.errors, []
            raise FakeError(f"the {self.protocol} fake itself failed: {errors[0]!r}") from errors[0]

    def raise_strays(self) -> None:
        """The same for code of the user alone."""
        if self._strays:
            strays, self._strays = self._strays, []
            raise guests.verdict(strays[0], self.name)

    async def _shut(self) -> None:
        self._listener.close()
        dismissed = [session.record.id for session in list(self._sessions.values()) if self._dismiss(session)]
        # For those who read and close at once, as most do.
        await self._until(lambda: not self._lingering and self._sessions.keys().isdisjoint(dismissed), GRACE)
        for session in list(self._sessions.values()):
            if session.record.ended_by is None and session.record.left_index is None:
                self.journal.close(session.record, "fake")  # a client that waits for an answer has not left
            session.abort()
        self._lingering.close()
        for task in self._tasks:
            task.cancel()
        if not await self._until(lambda: not self._sessions and not self._tasks, PATIENCE):
            self.failed(RuntimeError(f"did not end: {[*self._sessions.values(), *self._tasks]}"))
        self._disarm()

    def _dismiss(self, session: Session) -> bool:
        try:
            return session.dismiss()
        except Exception as error:
            self.failed(error)
            return False

    async def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Let the loop turn until `done()` holds, at most so many real seconds. True if it does."""
        deadline = self.loop.time() + seconds
        for turn in itertools.count():
            if done():
                return True
            if self.loop.time() >= deadline:
                return False
            await asyncio.sleep(0 if turn < 5 else 0.002)
        raise AssertionError("count() has no end")

    def __enter__(self) -> Self:
        try:
            self.start()
            threading.get_ident()  # Python looks for a Ctrl-C behind a call of C: here, and not first in `__exit__`
            return self
        except BaseException:
            self._abandon()  # a Ctrl-C on the way out: the block will not run, nor what ends it
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except FakeError as ours:
            if error is None:
                raise
            error.add_note(str(ours))
        except BaseException:
            self._abandon()
            raise

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await async_libraries.in_thread(lambda: self.__exit__(kind, error, trace))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._living.loop

    @property
    def _living(self) -> Runner:
        if self._runner is None:
            raise RuntimeError(f"this {type(self).__name__} is not running; {_START}")
        return self._runner

    @property
    def running(self) -> bool:
        return self._runner is not None

    @property
    def tls(self) -> str:
        """How it speaks TLS now: "none", "starttls" or "implicit"."""
        return self.options.tls or self.scenario.server.tls

    @property
    def users(self) -> Mapping[str, str] | None:
        """Who may log in, and with which password; None lets everybody in."""
        return self.options.users if self.options.users is not None else self.scenario.server.users

    @property
    def ca_file(self) -> str:
        """The path of the PEM file with the CA that clients should trust."""
        from notnow.servers.base import tls

        return tls.ca_file()

    def __repr__(self) -> str:
        where = self.url if self.running else "not running"
        return f"<{type(self).__name__} {self.scenario.name}, {where}>"

    @property
    def url(self) -> str:
        """Where it listens, as a URL. Raises RuntimeError before it listens on a port of the system's choice."""
        return self.url_of(self.host)

    def url_of(self, host: str) -> str:
        """The URL of this server under another name. Raises RuntimeError as `url` does."""
        if not self.port:
            raise RuntimeError(f"this {type(self).__name__} has no url yet, since it does not listen: {_START}")
        return f"{self.scheme}://{bracketed(host)}:{self.port}"

    @property
    @abstractmethod
    def scheme(self) -> str:
        """How its URLs begin."""

    # ---- scenario ------------------------------------------------------------------------------

    def play(self, scenario: str | Path | Scenario, /, **knobs: Any) -> None:
        """Swap the scenario: phases, counts and chance start anew.

        Live connections stay, keep their places, and get what the first phase says on `enter`. The journal
        is marked, not erased. Raises ScenarioError; then nothing has changed.
        """
        found = self._resolve(scenario, knobs)
        if self._runner is None:
            self.scenario = found
            self._apply_server_table()
            self._engine.play(found, self.clock.now())
            return
        self._runner.call(lambda: self._play(found))

    def _play(self, found: Scenario) -> None:
        self.scenario = found
        self._apply_server_table()
        self.journal.mark("play", found.name)
        self._dispatch(self._engine.play(found, self.clock.now()))

    def _apply_server_table(self) -> None:
        """Another scenario plays: the server is to be as it says. Nothing of what has happened is forgotten."""

    @contextlib.contextmanager
    def playing(self, scenario: str | Path | Scenario, /, **knobs: Any) -> Iterator[Self]:
        """Play a scenario for the length of a `with` block, then the one from before."""
        before = self.scenario
        self.play(scenario, **knobs)
        try:
            yield self
        finally:
            self.play(before)

    def next_phase(self) -> None:
        """Go on to the next phase of the scenario by hand."""
        self._living.call(self._next_phase)

    def _next_phase(self) -> None:
        phase = self._engine.phase
        scripts = self._engine.next_phase(self.clock.now())
        self._note_phase(phase)
        self._dispatch(scripts)

    def _note_phase(self, before: str) -> None:
        if self._engine.phase != before:
            self.journal.mark("phase", self._engine.phase)

    @property
    def phase(self) -> str:
        """The name of the phase that is playing."""
        return self._engine.phase

    def reset(self) -> None:
        """Forget what has happened: journal and messages. The scenario goes on as it is."""
        if self._runner is None:
            self._forget()
        else:
            self._runner.call(self._forget)

    def _forget(self) -> None:
        self.journal.reset()

    def begin(self) -> None:
        """Let scenario time start now, if no connection has started it."""
        self._living.call(self._begin)

    def _begin(self) -> None:
        self._engine.start(self.clock.now())
        self._arm()

    def settle(self) -> None:
        """Return when everything that is due, or has come in, has been carried out."""
        self._living.settle()

    # ---- waiting -------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta = 5.0) -> None:
        """Wait until `predicate(journal)` holds, at most `timeout` of real time: seconds, or a duration such as "1m".

        Raises WaitTimeoutError with what was seen instead, TypeError or ValueError for arguments that cannot be, and RuntimeError inside a running event loop,
        where the form is `await fake.await_for(…)`.
        """
        if async_libraries.running() is not None:
            raise RuntimeError("wait_for() would block the running event loop; use `await fake.await_for(…)`")
        seconds = _waitable(predicate, timeout)
        self._living.run(self._wait(predicate, seconds), patience=seconds + PATIENCE)

    async def await_for(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta = 5.0) -> None:  # noqa: ASYNC109
        """`wait_for`, inside an event loop."""
        work = guests.carried(self._wait(predicate, _waitable(predicate, timeout)))
        (await async_libraries.result_of(asyncio.run_coroutine_threadsafe(work, self.loop))).get()

    async def _wait(self, predicate: Callable[[Journal], object], timeout: float) -> None:  # noqa: ASYNC109
        changed = asyncio.Event()

        def listen(_entry: Entry) -> None:
            changed.set()

        stop = self.journal.subscribe(listen)
        self.waited_for += 1
        deadline = true_time.monotonic() + timeout
        try:
            while not predicate(self.journal):
                left = deadline - true_time.monotonic()
                if left <= 0:
                    raise WaitTimeoutError(self._waited(timeout))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, POLL))
                changed.clear()
        finally:
            self.waited_for -= 1
            stop()

    def _waited(self, timeout: float) -> str:
        from notnow.conduct.pictures.timeline import render

        return f"waited {timeout:g} s in vain; this is what happened:\n{render([self.journal])}"

    # ---- between the sockets and the engine: in the loop's thread only --------------------------

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A client has come: decide, then turn it away or build a session for it."""
        try:
            self._receive(sock, address)
        except Exception as error:
            sock.close()
            self.failed(error)

    def _receive(self, sock: socket.socket, address: tuple[str, int]) -> None:
        conn = f"{self._uid}-{next(self._ids)}"
        record = self.journal.open(conn, address[0], address[1])
        exchange = self.journal.ask(record, "connect", "", self._engine.phase)
        script, others = self._decide(Opened(conn, address[0]), "connect")
        assert script is not None, "the engine answers every connection"
        exchange.phase, exchange.rule, exchange.fault = script.phase, script.rule, script.fault
        if not self._turn_away(sock, script, exchange):
            session = self._sessions[conn] = self._admit(record, exchange, script)
            session.open(sock, self.tls == "implicit")
        self._dispatch(others)  # now that they reach this connection as well

    def _turn_away(self, sock: socket.socket, script: Script, exchange: Exchange) -> bool:
        """Refuse on the bare socket where a word (or none) and a close are all there is to it."""
        steps = script.steps
        if not steps or not isinstance(steps[-1], Close):
            return False
        word = steps[0] if len(steps) == 2 else None
        if len(steps) > 2 or (word is not None and (not isinstance(word, Send) or word.drip or self.tls == "implicit")):
            return False
        how = steps[-1].how
        if how != "fin" and word is not None:
            return False
        record = exchange.connection
        exchange.closed, exchange.how = True, how
        data = b""
        if isinstance(word, Send):
            self.journal.answer(exchange, "\n".join(word.lines))
            data = "\r\n".join((*word.lines, "")).encode("utf-8", "surrogateescape")
        else:
            self.journal.tell(exchange)
        self.journal.close(record, "fake")
        if how == "reset":
            listener.reset(sock)
            self.connection_closed(record)
        elif how == "abrupt":
            sock.close()
            self.connection_closed(record)
        else:
            self._lingering.part(sock, data, record)
        return True

    @abstractmethod
    def _admit(self, record: Connection, exchange: Exchange, script: Script) -> Session:
        """Build the session of a connection; it carries out `script` in place of the greeting."""

    def heard_after(self, record: Connection, data: bytes) -> None:
        """What a client says once the fake has decided to close; protocols leave passwords out of it."""
        record.said_after(data)

    def connection_closed(self, record: Connection, error: str | None = None) -> None:
        """A connection is over and its socket closed; where the fake has not ended it, the client has."""
        self._sessions.pop(record.id, None)
        self.feed(Closed(record.id))
        if record.ended_by is None:
            record.error = record.error or error  # what comes after the fake has closed is nobody's fault
            self.journal.close(record, "client")

    def feed(self, event: Event, moment: str = "") -> Script | None:
        """Tell the engine; give back the script for this event, and have the others carried out."""
        own, others = self._decide(event, moment)
        if others:
            self._dispatch(others)
        elif self._engine.due != self._alarm_at:
            self._arm()
        return own

    def _decide(self, event: Event, moment: str = "") -> tuple[Script | None, Sequence[Script]]:
        """Tell the engine; give back the script for this event, and those for whoever else it concerns."""
        engine = self._engine
        phase = engine.phase
        scripts = engine.feed(event, self.clock.now())
        if engine.phase != phase:
            self._note_phase(phase)
        conn = getattr(event, "conn", None) if scripts else None
        for i, script in enumerate(scripts):
            if script.moment == moment and script.conn == conn:
                del scripts[i]
                return script, scripts
        return None, scripts

    def has_rules_at(self, moment: str) -> bool:
        """True if the engine wants to be told of this moment: what is said often, and in vain, is not said."""
        return self._engine.has_rules_at(moment)

    def client_leaving(self, record: Connection) -> None:
        """The client is about to go: its places are free."""
        record.left_index, record.left_at = self.clock.stamp(), self.clock.now()
        self.feed(Leaving(record.id))

    def client_hello(self, record: Connection, sni: str | None) -> Script | None:
        if record.tls is None:
            record.tls = TLS()
        record.tls.sni = sni
        return self.feed(Hello(record.id, sni), "tls")

    def _dispatch(self, scripts: Iterable[Script]) -> None:
        for script in scripts:
            if session := self._sessions.get(script.conn):
                session.unasked(script)
        self._arm()

    def _arm(self) -> None:
        """Have the engine woken when it is next due."""
        due = self._engine.due
        if due == self._alarm_at or self._runner is None:
            return
        self._disarm()
        self._alarm_at = due
        self._alarm = None if due is None else self.clock.call_at(due, self.loop, self._tick)

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._alarm_at = None

    def _tick(self) -> None:
        self._alarm = self._alarm_at = None
        self.feed(Tick())

    def sleep(self, span: float) -> asyncio.Future[None]:
        """A future that is done this many seconds of scenario time from now."""
        future: asyncio.Future[None] = self.loop.create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        alarm = self.clock.call_at(self.clock.now() + span, self.loop, wake)
        future.add_done_callback(lambda f: alarm.cancel() if f.cancelled() else None)
        return future

    def call_later_real(self, seconds: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """`loop.call_later` in real seconds, few of them: `settle` waits for it as for anything on its way."""
        self._living.hold(seconds)
        return self.loop.call_later(seconds, callback)

    @property
    def turns(self) -> Turns:
        """Where connections queue up that have more to do than one piece of work."""
        return self._living.turns

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the loop until it is done or the fake stops."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def certificate_for(self, name: str | None, sni: str | None) -> tuple[str, Any]:
        """The certificate to show, as `notnow.servers.base.tls.choose` finds it."""
        from notnow.servers.base import tls

        own = ("localhost", "127.0.0.1", "::1", self.hostname, self.host)
        return tls.choose(self.scenario.certificates, name, sni, own)

    def tls_context(self, shown: Any = None) -> ssl.SSLContext:
        """The TLS context that shows a certificate; with none it is the one with which a handshake begins, before the
        client has named anybody.
        """
        from notnow.servers.base import tls

        return tls.context(shown or self.certificate_for(None, None)[1], alpn=self.alpn)

    def failed(self, error: BaseException) -> None:
        """Our own code has failed: whoever stops this fake is told."""
        self.errors.append(error)

    def guest_failed(self, error: BaseException) -> None:
        """Code of the user has raised this where nobody waits for it: whoever stops this fake is told."""
        if error not in self._strays:
            self._strays.append(error)


def _for_no_scenario(protocol: str, name: str, options: Iterable[str]) -> Problem:
    """A keyword that is no server option, and a knob of nothing."""
    return Problem(
        f"{name!r} is no option of {protocol} servers, and no knob where no scenario is named",
        allowed=f"{', '.join(sorted(options))}; or a scenario with that knob as the first argument",
        nearest=nearest(name, options),
    )
