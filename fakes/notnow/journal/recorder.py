"""Writing the journal of a fake, from its event loop only.

Records refuse to be changed; a recorder alone writes to them (`force_setattr`), so that users can hold an exchange and
see it grow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec.structs import force_setattr, replace

from notnow.clock import Clock, Reading
from notnow.journal.journal import DEFAULT_LIMIT, Connection, Entry, Exchange, Journal, Mark
from notnow.journal.text import LONGEST, clip
from notnow.journal.values import (
    TLS,
    Arrival,
    ConnectionClose,
    Defect,
    End,
    Facts,
    Failure,
    FakeStopped,
    Frame,
    GoAwayFrame,
    Request,
)

LONG = 1000  # exchanges of one connection


class Decision(Protocol):
    """What was decided about an exchange: a script of the engine is one."""

    @property
    def phase(self) -> str: ...
    @property
    def rule(self) -> str | None: ...
    @property
    def fault(self) -> str | None: ...
    @property
    def decision(self) -> int: ...


class Recorder:
    """The one writer of a journal.

    `on_failure` is called with what a listener raises; without it, the exception goes on.
    """

    def __init__(self, clock: Clock, *, server: str = "", protocol: str = "smtp", limit: int = DEFAULT_LIMIT) -> None:
        self.journal = Journal(clock, server=server, protocol=protocol, limit=limit)
        self.clock = clock
        self.on_failure: Callable[[BaseException], None] | None = None
        self._numbers = 0

    # ---- exchanges -----------------------------------------------------------------------------

    def ask(
        self,
        connection: Connection,
        moment: str,
        request: str,
        phase: str,
        *,
        counted: bool = True,
        facts: Facts | None = None,
        read: Reading | None = None,
    ) -> Exchange:
        """A client asks: a new exchange, without a reply so far.

        `counted`: the moment counts once more. `read` is what the clock showed, if it has just been read.
        """
        journal = self.journal
        if len(request) > LONGEST:
            request = clip(request)
        index, at, wall = read or self.clock.read()
        exchange = Exchange(index, at, wall, moment, request, phase, connection, None, None, None, None, facts)
        order, counts = journal._order, journal._counts
        order.append(exchange)
        connection._log.append(exchange)
        if counted:
            counts[moment] = counts.get(moment, 0) + 1
        if len(order) > journal.limit:
            self._drop()
        return exchange

    def arrived(self, exchange: Exchange, arrival: Arrival) -> None:
        """The request arrived then, and had to wait for its turn."""
        force_setattr(exchange, "arrival", arrival)

    def also(self, moment: str) -> None:
        """The client's last request counts for this moment, too: a broader one, or a second one."""
        counts = self.journal._counts
        counts[moment] = counts.get(moment, 0) + 1

    def decided(self, exchange: Exchange, decision: Decision) -> None:
        """What the engine decided about an exchange: nothing else writes this."""
        if decision.phase != exchange.phase:
            force_setattr(exchange, "phase", decision.phase)
        if decision.decision:  # none was needed where no rule looks
            force_setattr(exchange, "_decision", decision.decision)
        if decision.rule is not None or decision.fault is not None:
            force_setattr(exchange, "rule", decision.rule)
            force_setattr(exchange, "fault", decision.fault)

    def refused(self, exchange: Exchange, fault: str, rule: str | None = None) -> None:
        """The fake refuses by a limit of its own, and not by a script."""
        force_setattr(exchange, "rule", rule)
        force_setattr(exchange, "fault", fault)

    def answer(self, exchange: Exchange, text: str) -> None:
        """Reply lines for an exchange, without their CRLF; several replies add up."""
        said = text if exchange.reply is None else f"{exchange.reply}\n{text}"
        force_setattr(exchange, "reply", said if len(said) <= LONGEST else clip(said))
        force_setattr(exchange, "answered_at", self.clock.now())
        self.tell(exchange)  # without listeners, too: a worker hands on what it is told

    def answered(self, exchange: Exchange) -> None:
        """The last byte of the reply leaves now."""
        force_setattr(exchange, "answered_at", self.clock.now())

    def unanswer(self, exchange: Exchange, reply: str | None) -> None:
        """The last reply could not be sent: `reply` is what had been said before it."""
        force_setattr(exchange, "reply", reply)

    def now(self) -> Arrival:
        """This moment, as its place in the order of everything and scenario seconds."""
        return Arrival(self.clock.stamp(), self.clock.now())

    def frame(self, exchange: Exchange, frame: Frame) -> None:
        """The fake sends an HTTP/2 frame."""
        frame = self._framed(exchange.connection, frame)
        force_setattr(exchange, "frames", (*exchange.frames, frame))
        self.answer(exchange, str(frame))

    def goaway(self, connection: Connection, frame: GoAwayFrame, exchange: Exchange | None = None) -> None:
        """The fake sends a GOAWAY because it closes; it is no reply. `exchange` is the one that it ends, if it ends one."""
        sent = self._framed(connection, frame)
        if exchange is not None:
            force_setattr(exchange, "frames", (*exchange.frames, sent))

    def _framed(self, connection: Connection, frame: Frame) -> Frame:
        """The frame with the time at which it leaves."""
        sent = replace(frame, at=self.clock.now(), index=self.clock.stamp())
        if isinstance(sent, GoAwayFrame):
            force_setattr(connection, "goaways", (*connection.goaways, sent))
        return sent

    def facts(self, exchange: Exchange, facts: Facts | None) -> None:
        """What else is known of an exchange."""
        force_setattr(exchange, "facts", facts)

    def response(
        self,
        exchange: Exchange,
        line: str,
        at: float,
        status: int,
        length: int | None,
        sent: int,
        told: Mapping[str, str],
    ) -> None:
        """The head of a response leaves (HTTP), with the first `sent` bytes of its body. The names of `told` are those of `Request`."""
        assert isinstance(exchange.facts, Request)
        request = replace(exchange.facts, status=status, length=length, sent=sent, whole=sent == length)
        force_setattr(exchange, "facts", replace(request, **told) if told else request)
        force_setattr(exchange, "reply", line if exchange.reply is None else f"{exchange.reply}\n{line}")
        force_setattr(exchange, "answered_at", at)
        self.tell(exchange)

    def more(self, exchange: Exchange, **known: object) -> None:
        """More is known of an exchange that has facts: the names of `known` are theirs."""
        assert exchange.facts is not None
        force_setattr(exchange, "facts", replace(exchange.facts, **known))

    def end(self, exchange: Exchange, end: End | None = None) -> None:
        """The fake ends the connection, or a stream, with this exchange. A close that follows another end is a part of it."""
        end = end or ConnectionClose()
        if exchange.end is None or isinstance(exchange.end, ConnectionClose):
            force_setattr(exchange, "end", end)

    def turned_away(self, exchange: Exchange, reply: str | None, end: ConnectionClose) -> None:
        """The fake ends the connection here, after these reply lines if there are any: `answer`, `end` and `close` in one."""
        connection, now = exchange.connection, self.clock.now()
        force_setattr(exchange, "end", end)
        if reply is not None:
            force_setattr(exchange, "reply", reply if len(reply) <= LONGEST else clip(reply))
            force_setattr(exchange, "answered_at", now)
        self.tell(exchange)
        self._close(connection, "fake", now)

    def turn_away(
        self,
        client: tuple[str, str, int],
        at: float,
        decision: Decision,
        reply: str | None,
        end: ConnectionClose,
    ) -> Exchange:
        """A client has connected, and the fake ends the connection at once: `open`, `ask`, `decided` and `turned_away` in one.

        `client` is its connection's id, its address and its port.
        """
        connection = self.open(*client, at)
        index, _, wall = self.clock.read()
        if reply is not None and len(reply) > LONGEST:
            reply = clip(reply)
        exchange = Exchange(
            index, at, wall, "connect", "", decision.phase, connection, reply, decision.fault, decision.rule,
            None if reply is None else at, None, end, (), decision.decision,
        )  # fmt: skip
        self.journal._order.append(exchange)
        connection._log.append(exchange)
        self.also("connect")
        if len(self.journal._order) > self.journal.limit:
            self._drop()
        self.tell(exchange)
        self._close(connection, "fake", at)
        return exchange

    def served(
        self,
        connection: Connection,
        request: str,
        read: Reading,
        decision: Decision,
        reply: str,
        facts: Request,
    ) -> Exchange:
        """A client sends a request, and the fake answers it at once (HTTP): `ask`, `decided` and `response` in one.

        `read` is what the clock showed when the request was read. Listeners are told once its arrival is noted.
        """
        if len(request) > LONGEST:
            request = clip(request)
        index, at, wall = read
        exchange = Exchange(
            index, at, wall, "request", request, decision.phase, connection, reply, decision.fault, decision.rule,
            at, facts, None, (), decision.decision,
        )  # fmt: skip
        journal = self.journal
        journal._order.append(exchange)
        connection._log.append(exchange)
        journal._counts["request"] = journal._counts.get("request", 0) + 1
        if len(journal._order) > journal.limit:
            self._drop()
        return exchange

    def stopped(self, exchange: Exchange) -> None:
        """The fake was stopped, and says goodbye."""
        self.refused(exchange, "stopped")
        self.end(exchange, FakeStopped())

    # ---- connections ---------------------------------------------------------------------------

    def open(self, id: str, client: str, peer_port: int, at: float | None = None) -> Connection:
        """A client has connected: now, or at this time if the clock has just been read."""
        self._numbers += 1
        journal, clock, number = self.journal, self.clock, self._numbers
        opened_at = clock.now() if at is None else at
        connection = Connection(journal, number, id, client, peer_port, clock.stamp(), opened_at)
        journal._connections[connection.number] = connection
        return connection

    def tls(self, connection: Connection, **known: str | tuple[Defect, ...] | None) -> None:
        """More is known of the TLS of a connection: the names of `known` are those of `TLS`."""
        force_setattr(connection, "tls", replace(connection.tls or TLS(), **known))

    def failed(self, connection: Connection, failure: Failure) -> None:
        """The client broke the protocol, or the connection broke."""
        force_setattr(connection, "failure", failure)

    def leaving(self, connection: Connection) -> None:
        """The client says that it is leaving, or has ended its side."""
        force_setattr(connection, "left_index", self.clock.stamp())
        force_setattr(connection, "left_at", self.clock.now())

    def said_after(
        self,
        connection: Connection,
        data: bytes,
        masked: Callable[[str], str] = str,
        arrival: Arrival | None = None,
        words: bytes | None = None,
    ) -> None:
        """The client says something after the fake has decided to close; `masked` takes passwords out of it.

        `arrival` is when it arrived if that was before; `words` is what it means if its bytes are no text.
        """
        if connection.after_arrival is None:
            force_setattr(connection, "after_arrival", arrival or self.now())
        force_setattr(connection, "after_bytes", connection.after_bytes + len(data))
        room = LONGEST - len(connection.after)
        if room > 0:
            text = (data if words is None else words).decode("utf-8", "replace")
            force_setattr(connection, "after", masked(connection.after + text[:room]))

    def unread(
        self,
        connection: Connection,
        data: bytes,
        masked: Callable[[str], str] = str,
        arrival: Arrival | None = None,
    ) -> None:
        """The client says something while the fake stalls, and reads no more commands; or had said it before."""
        if connection.unread_arrival is None:
            force_setattr(connection, "unread_arrival", arrival or self.now())
        room = LONGEST - len(connection.unread)
        if room > 0:
            force_setattr(connection, "unread", masked(connection.unread + data.decode("utf-8", "replace")[:room]))

    def close(self, connection: Connection, by: str) -> None:
        """A connection ends; `by` is "client", or "fake" as soon as the fake has decided to close."""
        self._close(connection, by, self.clock.now())

    def _close(self, connection: Connection, by: str, now: float) -> None:
        force_setattr(connection, "ended_by", by)
        force_setattr(connection, "closed_at", now)
        force_setattr(connection, "closed_index", self.clock.stamp())
        if self.journal.dropped and not connection._log:
            self.journal._connections.pop(connection.number, None)
        self.tell(connection)

    # ---- the journal ---------------------------------------------------------------------------

    def mark(self, kind: str, text: str, **more: object) -> None:
        """A scenario is played, or a phase begins; `more` is what else `Mark` says of it."""
        journal = self.journal
        mark = Mark(self.clock.stamp(), self.clock.now(), kind, text, journal.server, more)
        if kind == "play":
            journal._played, journal._dropped_since_play = mark.index, 0
        journal._marks.append(mark)
        self.tell(mark)

    @property
    def has_listeners(self) -> bool:
        """True if somebody is told of entries."""
        return bool(self.journal._listeners)

    def tell(self, entry: Entry) -> None:
        """Tell the listeners of an entry that is complete, or has grown."""
        for listener in self.journal._listeners:
            try:
                listener(entry)
            except BaseException as error:  # the user's: the reply still goes to the client
                if self.on_failure is None:
                    raise
                self.on_failure(error)

    def reset(self) -> None:
        """Forget everything but the connections that are still open."""
        journal = self.journal
        journal._order.clear()
        journal._marks.clear()
        journal._counts.clear()
        journal._dropped = journal._dropped_since_play = 0
        for connection in journal.connections:
            connection._log.clear()
            if connection.ended_by is not None:
                del journal._connections[connection.number]

    def _drop(self) -> None:
        journal = self.journal
        oldest = journal._order.popleft()
        journal._dropped += 1
        journal._dropped_since_play += oldest.index > journal._played
        connection = oldest.connection
        log = connection._log
        if isinstance(log, deque):
            log.popleft()
        else:
            del log[0]
            if len(log) > LONG:  # to delete the first item of a long list moves all others
                force_setattr(connection, "_log", deque(log))
        if not log and connection.ended_by is not None:
            journal._connections.pop(connection.number, None)
