"""The bridge between the sockets of a fake and its engine.

It accepts connections, and turns them away or builds their sessions; what the engine then is told, and says, is in
`driving`. It is the `Host` of its sessions; adapters derive from it what their sessions need besides.
`start`, `listen`, `leave`, `prepare` and `begin` are for any thread, the rest is for the loop's.
"""

from __future__ import annotations

import itertools
import os
import socket
import ssl
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from notnow.engine.actions import Action, Close, Script, Send
from notnow.engine.engine import Engine
from notnow.engine.events import Closed, Hello, Leaving, Opened
from notnow.engine.store import Store
from notnow.journal import Arrival, Connection, Exchange, Failure, Recorder
from notnow.language.scenario import Scenario
from notnow.servers.base import listener
from notnow.servers.base.closing import QUIET
from notnow.servers.base.driving import Driving
from notnow.servers.base.listener import Listening
from notnow.servers.base.options import Options
from notnow.servers.base.refusing import Refusal, refusal
from notnow.servers.base.runner import polls_on
from notnow.servers.base.session import Session
from notnow.servers.base.sharing import ALONE, sharing_of

HOSTNAME = "fake.notnow.test"  # what the fakes call themselves (RFC 6761: .test is nobody's)
GRACE = 0.2  # real seconds that clients have for reading their goodbye when a fake stops
PATIENCE = 5.0  # real seconds in which something must end, as all is closed; only a bug of ours takes longer


class Bridge(Driving):
    """Between the sockets and the engine of one fake."""

    alpn: ClassVar[tuple[str, ...]] = ()  # the protocols that it speaks in TLS (RFC 7301)
    hostname = HOSTNAME
    goodbye: ClassVar[str] = ""  # the reply to clients that are cut off, with {host} in it; HTTP/2 has a GOAWAY for it

    def __init__(self, options: Options, scenario: Scenario, label: str, name: str) -> None:
        super().__init__(options.clock, label, scenario.protocol, name)
        self.options, self.scenario = options, scenario
        self.host, self.port = options.host, options.port
        self.recorder = self.new_recorder(server=name, protocol=scenario.protocol, limit=options.journal_limit)
        self.recorder.on_failure = self.guest_failed
        self.journal = self.recorder.journal
        self.sharing = sharing_of(self, name)
        self.engine = Engine(
            scenario, seed=options.seed, host=self.hostname, epoch=self.clock.epoch, store=self.new_store
        )
        self.behaves, self.settled = self.engine.behaves, self.engine.settled
        self.has_rules_at = self.engine.has_rules_at
        self.sessions: dict[str, Session] = {}
        self.ports: set[int] = set()  # where it has sockets
        self.waited_for = 0  # how many predicates are being waited for
        self.shutting = False  # it says goodbye to its clients, and closes
        self.stopped = False  # nothing more will happen
        self._ids = itertools.count(1)
        self._uid = os.urandom(4).hex()
        self._refused_with: tuple[Action, ...] | None = None  # the steps of the last script at connect
        self._refusal: Refusal | None = None  # what they come to

    # ---- hooks for adapters ----------------------------------------------------------------------

    @abstractmethod
    def admit(self, record: Connection, exchange: Exchange, script: Script) -> Session:
        """Build the session of a connection; it carries out `script` in place of the greeting."""

    def new_recorder(self, **options: Any) -> Recorder:
        """The writer of its journal."""
        return Recorder(self.clock, **options)

    def new_store(self) -> Store:
        """The counts for a scenario that it begins to play."""
        return self.sharing.new_store()

    def bind(self) -> socket.socket:
        """The socket to listen on. Raises StartError if the address is taken."""
        return listener.bind(self.host, self.port)

    def new_listener(self, sock: socket.socket) -> Listening:
        """Begin to accept the clients of this socket."""
        return listener.Listener(self.loop, sock, self._accept, lambda: not self.sessions)

    def prepare(self) -> None:
        """Get ready, in the caller's thread, before clients may connect."""

    def apply_server_table(self) -> None:
        """Another scenario plays: set the server up as its [server] says. What has happened stays."""

    def moved(self) -> None:
        """The service of which this is a replica stands elsewhere, or can be asked or not: nothing more is to be done."""

    def forget(self) -> None:
        """Forget what has happened."""
        self.recorder.reset()

    def masked(self, text: str) -> str:
        """What a client has said, without its passwords, for the journal."""
        return text

    @property
    def prompt(self) -> bool:
        """True if its start, and its end once `shut` is done, wait for nothing."""
        return self.sharing is ALONE

    # ---- settings --------------------------------------------------------------------------------

    @property
    def tls(self) -> str:
        return self.options.tls or self.scenario.server.tls

    @property
    def users(self) -> Mapping[str, str] | None:
        return self.options.users if self.options.users is not None else self.scenario.server.users

    # ---- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen. Raises StartError if the address is taken."""
        sock = self.bind()
        try:
            self.acquire()
            self.prepare()
            self.sharing.start()
            try:
                self.listen(sock)
            except BaseException:
                self.runner.call(lambda: self.loop.remove_reader(sock.fileno()))  # the loop may watch it already
                raise
        except BaseException:
            sock.close()
            self.sharing.stop()
            self.release()
            raise

    def leave(self) -> None:
        """Leave the service and the loop, once `shut` is done."""
        self.sharing.stop()
        self.errors += self.runner.errors
        self.runner.errors.clear()
        self.release()

    def listen(self, sock: socket.socket) -> None:
        """Accept the clients of this socket."""
        self.stopped = self.shutting = False
        self.lingering = listener.LingeringClose(self.loop, self.heard_after)
        self.port = self.engine.port = sock.getsockname()[1]
        self.ports.add(self.port)
        if self.recorder.has_listeners:  # they are called in the loop's thread
            self.runner.call(self._note_play)
        else:
            self._note_play()
        self.listener = self.new_listener(sock)  # last: a client may wait already

    def close_unused(self) -> bool:
        """Listen no more, in any thread. True if that was all: nobody has connected, and nothing waits for the loop."""
        own = self.runner.pid == os.getpid()  # a forked child shares the epoll of its parent
        if not (own and polls_on(self.loop) and isinstance(self.listener, listener.Listener)):
            return False
        self.stopped = self.listener.end() and not (self.tasks or self.waited_for or self._alarm)
        return self.stopped

    async def shut(self) -> None:
        """Say goodbye to the clients, and close everything."""
        self.listener.close()
        self.sharing.let_go()
        self.shutting = True
        dismissed = [session.record.id for session in list(self.sessions.values()) if self._dismiss(session)]
        if dismissed or self.lingering:
            await self._until_gone(dismissed)
        for session in list(self.sessions.values()):
            if session.record.ended_by is None and session.record.left_index is None:
                self.recorder.close(session.record, "fake")  # a client that waits for an answer has not left
            session.abort()
        self.lingering.close()
        for task in self.tasks:
            task.cancel()
        if left := await self._until_ended():
            self.failed(RuntimeError(f"{len(left)} did not end, the first of them: {left[:3]}"))
        self._disarm()
        self.stopped = True
        if self.waited_for:
            await self.until(lambda: not self.waited_for, PATIENCE)

    async def _until_gone(self, dismissed: Sequence[str]) -> None:
        """Let these clients read their goodbye, at most GRACE. Most do and close at once; in TLS many wait for its end."""

        def gone() -> bool:
            return not self.lingering and self.sessions.keys().isdisjoint(dismissed)

        end = self.loop.time() + GRACE
        while not await self.until(gone, min(QUIET, GRACE)) and self.loop.time() < end:
            for session in list(self.sessions.values()):
                session.end_if_quiet()

    async def _until_ended(self) -> list[object]:
        """Let all sessions and tasks end; those that are left once none has ended for PATIENCE seconds."""
        while (count := len(self.sessions) + len(self.tasks)) and await self._fewer_than(count):
            pass
        return [*self.sessions.values(), *self.tasks]

    async def _fewer_than(self, count: int) -> bool:
        return await self.until(lambda: len(self.sessions) + len(self.tasks) < count, PATIENCE)

    def _dismiss(self, session: Session) -> bool:
        try:
            return session.dismiss()
        except Exception as error:
            self.failed(error)
            return False

    # ---- the scenario ----------------------------------------------------------------------------

    def play(self, scenario: Scenario) -> None:
        """Swap the scenario; live connections get the scripts of its first phase."""
        self.sharing.play(scenario)
        self._dispatch(self.swap(scenario, self.clock.now()))

    def swap(self, scenario: Scenario, now: float) -> list[Script]:
        """Play another scenario, as this replica's user or another replica has said."""
        self.scenario = scenario
        self._refused_with = None  # another `tls` may hold
        self.apply_server_table()
        if self.running:
            self._note_play()
        return self.engine.play(scenario, now)

    def next_phase(self) -> None:
        """Go on to the next phase by hand."""
        self.sharing.next_phase()
        phase = self.phase
        scripts = self.engine.next_phase(self.clock.now())
        self._note_phase(phase)
        self._dispatch(scripts)

    def kick(self) -> int:
        """Cut off every live client, on all replicas; the number of those here."""
        self.sharing.kick()
        return self.cut_off()

    def cut_off(self) -> int:
        """Cut off every live client of this replica; the number of them."""
        scripts = self.engine.kick(self.farewell)
        self._dispatch(scripts)
        return len(scripts)

    @property
    def farewell(self) -> tuple[Send | Close, ...]:
        """The steps by which clients are cut off."""
        if not self.goodbye:
            return (Close(),)
        return Send((self.goodbye.format(host=self.hostname),)), Close()

    def hang_up(self) -> None:
        """Cut off every live client, and take none in any more."""
        self.listener.close()
        self.cut_off()

    def _note_play(self) -> None:
        """Put the scenario into the journal, so that `notnow replay` finds there what exchanges do not tell."""
        played = self.scenario
        self.recorder.mark(
            "play", played.name, protocol=played.protocol, tls=self.tls, toml=played.text, knobs=dict(played.knobs)
        )

    # ---- accepting -------------------------------------------------------------------------------

    def _accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """A client has connected: decide, then turn it away or build a session for it."""
        try:
            self._receive(sock, address)
        except Exception as error:
            sock.close()
            self.failed(error)

    def _receive(self, sock: socket.socket, address: tuple[str, int]) -> None:
        conn = f"{self._uid}-{next(self._ids)}"
        always = self.engine.progress.refusal
        if always is not None and self._refuse(always.rule.steps, sock, conn, address):
            return
        record = self.recorder.open(conn, address[0], address[1])
        exchange = self.recorder.ask(record, "connect", "", self.phase)
        script, others = self._decide(Opened(conn, address[0]), "connect", self.clock.now())
        assert script is not None, "the engine answers every connection"
        self.recorder.decided(exchange, script)
        if not self._turn_away(sock, script, exchange):
            session = self.sessions[conn] = self.admit(record, exchange, script)
            session.open(sock, self.tls == "implicit")
        if others or self.engine.due != self._alarm_at:
            self._dispatch(others)  # now that they reach this connection as well

    def _refuse(self, steps: tuple[Action, ...], sock: socket.socket, conn: str, address: tuple[str, int]) -> bool:
        """Turn away a client where each is turned away with these steps: what `_receive` comes to then."""
        found, now = self._refusal_of(steps), self.clock.now()
        if found is None or (script := self.engine.refuse(conn, now)) is None:
            return False
        exchange = self.recorder.turn_away((conn, *address), now, script, found.words, found.end)
        self._part(sock, found, exchange.connection)
        return True

    def _turn_away(self, sock: socket.socket, script: Script, exchange: Exchange) -> bool:
        """Refuse on the bare socket where the whole script is a close, or one reply and a close."""
        found = self._refusal_of(script.steps)
        if found is None:
            return False
        self.recorder.turned_away(exchange, found.words, found.end)
        self.engine.forget(exchange.connection.id)
        self._part(sock, found, exchange.connection)
        return True

    def _refusal_of(self, steps: tuple[Action, ...]) -> Refusal | None:
        """The refusal that these steps are on a bare socket; None if they need a session."""
        if steps is not self._refused_with:  # as long as one rule refuses, it has the same steps
            found = refusal(steps)
            in_tls = found is not None and found.words is not None and self.tls == "implicit"
            self._refused_with, self._refusal = steps, None if in_tls else found
        return self._refusal

    def _part(self, sock: socket.socket, found: Refusal, record: Connection) -> None:
        if found.end.how == "reset":
            listener.reset(sock)
        elif found.end.how == "abrupt":
            sock.close()
        else:
            self.lingering.part(sock, found.data, record)

    def heard_after(
        self, record: Connection, data: bytes, arrival: Arrival | None = None, words: bytes | None = None
    ) -> None:
        self.recorder.said_after(record, data, self.masked, arrival, words)

    def left_unread(self, record: Connection, data: bytes, arrival: Arrival | None = None) -> None:
        self.recorder.unread(record, data, self.masked, arrival)

    def drain(self, sock: socket.socket) -> None:
        self.lingering.part(sock, b"", None)

    # ---- what connections tell -------------------------------------------------------------------

    def client_hello(self, record: Connection, sni: str | None) -> Script | None:
        self.recorder.tls(record, sni=sni)
        return self.feed(Hello(record.id, sni), "tls")

    def client_leaving(self, record: Connection) -> None:
        self.recorder.leaving(record)
        self.feed(Leaving(record.id))

    def connection_closed(self, record: Connection, failure: Failure | None = None) -> None:
        """A connection has ended and its socket is closed; where the fake has not ended it, the client has."""
        self.sessions.pop(record.id, None)
        self.feed(Closed(record.id))
        if record.ended_by is None:
            if failure is not None and record.failure is None:  # a failure after the fake has closed means nothing
                self.recorder.failed(record, failure)
            self.recorder.close(record, "client")

    # ---- TLS -------------------------------------------------------------------------------------

    def certificate_for(self, name: str | None, sni: str | None) -> tuple[str, Any]:
        from notnow.servers.base import tls

        own = ("localhost", "127.0.0.1", "::1", self.hostname, self.host)
        return tls.choose(self.scenario.certificates, name, sni, own)

    def tls_context(self, shown: Any = None) -> ssl.SSLContext:
        from notnow.servers.base import tls

        return tls.context(shown or self.certificate_for(None, None)[1], alpn=self.alpn)
