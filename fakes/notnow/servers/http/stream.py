"""One request on a connection, from its head to the last byte of the answer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from notnow.actions import Respond, Response, Script
from notnow.engine import BEHAVE
from notnow.events import Answered, Asked, Ended, Heard, Reached
from notnow.journal import Exchange
from notnow.servers import tls
from notnow.servers.http.asgi import Call
from notnow.servers.http.frames import CODES
from notnow.servers.http.stack import H2, H11_STREAM, Head, Headers, events

if TYPE_CHECKING:
    from notnow.servers.http.connection import HTTPConnection
    from notnow.servers.http.stack import H11

MOST = 33_554_432  # bytes of a request body that are kept for the app
TOLD = ("retry-after", "alt-svc", "location")  # headers of an answer that the journal keeps
BODILESS = frozenset({204, 304})


class Gone(Exception):  # noqa: N818 (no error)
    """Nobody waits for the answer any more."""


class Stream:
    """A request, and what becomes of it.

    `facts` stand in the journal, and are brought up to date as the bodies pass.
    """

    idle = False  # hypercorn asks

    def __init__(self, connection: HTTPConnection, protocol: H2 | H11, number: int) -> None:
        self.connection, self.protocol, self.number = connection, protocol, number
        self.fake = connection.fake
        self.id = number if isinstance(protocol, H2) else H11_STREAM
        self.exchange: Exchange
        self.head: Head
        self.known: dict[str, Any] = {}  # what rules may ask about
        self.facts: dict[str, Any] = {}
        self.watch: int | None = None  # bytes of the body that passes until `Reached`
        self.chunks: list[bytes] = []  # of the request's body, that nobody has taken
        self.complete = self.gone = self.over = False
        self.news = asyncio.Event()  # a piece of the body, its end, or the end of the client's interest
        self._hash = hashlib.sha256()
        self._received = self._sent = 0
        self._status: int | None = None  # the head of the answer is out
        self._paused: asyncio.Future[None] | None = None

    # ---- the request -----------------------------------------------------------------------------

    async def begin(self, head: Head) -> None:
        self.head = head
        connection, target = self.connection, head.target.decode("latin-1")
        self.known = known(head, connection)
        request = f"{head.method} {head.authority}{target}"
        self.exchange = self.fake.journal.ask(connection.record, "request", request, self.fake.phase)
        self.exchange.facts = self.facts = {
            "stream": self.number,
            "version": head.version,
            "method": head.method,
            "authority": head.authority,
            "path": target,
            "misdirected": [why for why in self.known["misdirected"] if isinstance(why, str)],
            "status": None,
            "body_bytes": 0,
            "body_sha256": None,
        }
        connection.live[self.number] = self
        if await connection.turned_away(self):
            return
        script = self.fake.feed(Asked(connection.record.id, "request", self.known, self.number), "request")
        if script is not None:  # None: the connection has been given up meanwhile
            await self._carry_out(script)

    async def _carry_out(self, script: Script) -> None:
        first = script.steps[0] if len(script.steps) == 1 else None
        if script.steps is BEHAVE:
            self.exchange.phase = script.phase
            self.spawn(Call(self).run())
        elif isinstance(first, Respond) and not first.drip:
            self.exchange.phase, self.exchange.rule, self.exchange.fault = script.phase, script.rule, script.fault
            await self.respond(first.response)
        else:
            self.spawn(self.connection.perform(script, self.exchange, self, Call(self).run))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.connection.spawn(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Gone:
            self.finish()

    async def handle(self, event: events.Event) -> None:
        if isinstance(event, events.Body):
            self._came(bytes(event.data))
        elif isinstance(event, events.EndBody):
            self.complete = True
            self.facts["body_sha256"] = self._hash.hexdigest() if self._received else None
            self.news.set()
            if self.over and isinstance(self.protocol, H2):
                self.protocol.remove(self.id)
        elif isinstance(event, events.StreamClosed):
            self.gone = True
            self.news.set()
            self._go_on(Gone())
            self.finish()

    def _came(self, data: bytes) -> None:
        """A piece of the body. At the byte for which a rule has waited, it acts."""
        self._hash.update(data)
        self._received += len(data)
        self.facts["body_bytes"] = self._received
        self.fake.feed(Heard(self.connection.record.id))
        if self.over:
            return  # it has been answered; what still comes is counted and dropped
        if self._received <= MOST:
            self.chunks.append(data)
        self.news.set()
        if self.watch is not None and self._status is None and self._received >= self.watch:
            self._reached("request", self._received)

    def _reached(self, moment: str, count: int) -> None:
        self.watch = None
        script = self.fake.feed(Reached(self.connection.record.id, self.number), moment)
        if script is None:
            return
        which = "its body" if moment == "request" else "the answer"
        journal, record = self.fake.journal, self.connection.record
        exchange = journal.ask(record, moment, f"({count} bytes of {which} so far)", script.phase, counted=False)
        exchange.facts = self.facts
        self._paused = self.fake.loop.create_future()
        self.spawn(self.connection.perform(script, exchange, self))

    def _go_on(self, error: Exception | None = None) -> None:
        if self._paused is not None and not self._paused.done():
            self._paused.set_exception(error) if error else self._paused.set_result(None)

    # ---- the answer ------------------------------------------------------------------------------

    async def respond(self, response: Response, drip: float = 0.0, exchange: Exchange | None = None) -> None:
        """Answer with just this."""
        if exchange is not None:
            self.exchange = exchange  # it came in the middle of the body
        status, body = response.status or 200, (response.body or "").encode()
        headers = encoded(response.headers)
        if not any(name == b"content-length" for name, _ in headers) and status not in BODILESS:
            headers.append((b"content-length", b"%d" % len(body)))
        shown = b"" if self.head.method == "HEAD" or status in BODILESS else body
        if isinstance(self.protocol, H2) and not drip and self.watch is None:
            self._note(status, headers)
            if self.protocol.answer_at_once(self.id, status, headers, shown):
                await self.protocol.flush()
                self.facts["sent"] = len(shown)
                await self._ended()
                return
            self._status = None
        await self.start(status, headers)
        await self.write(shown, drip)
        await self.end()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        self._still_wanted()
        if self._status is None:
            self._note(status, headers)
        if not isinstance(self.protocol, H2) and self.connection.closing:
            headers = [*headers, (b"connection", b"close")]
        await self.protocol.stream_send(events.Response(stream_id=self.id, headers=headers, status_code=status))

    def _note(self, status: int, headers: Headers) -> None:
        """Put the answer on record, before it is on the wire."""
        self._status = self.facts["status"] = status
        for name, value in headers:
            key = name.decode("latin-1").lower()
            if key in TOLD:
                self.facts[key] = value.decode("latin-1")
        self.fake.journal.answer(self.exchange, f"{status} {reason(status)}".strip())

    async def write(self, data: bytes, drip: float = 0.0) -> None:
        """Send a piece of its body, `drip` seconds of scenario time between two bytes."""
        if self.head.method == "HEAD":
            return
        if drip:
            for i in range(len(data)):
                if i:
                    await self.fake.sleep(drip)
                self.fake.feed(Heard(self.connection.record.id))
                await self._pass(data[i : i + 1])
        elif data:
            await self._pass(data)

    async def _pass(self, data: bytes) -> None:
        """Send bytes, at most up to the one for which a rule waits."""
        self._still_wanted()
        allowed = len(data) if self.watch is None else self.watch - self._sent
        piece = data[:allowed]
        self._sent += len(piece)
        self.facts["sent"] = self._sent
        await self.protocol.stream_send(events.Body(stream_id=self.id, data=piece))
        if self.watch is not None and self._sent >= self.watch:
            await self.connection.drained(self)
            self._reached("response", self._sent)
            if self._paused is not None:
                await self._paused
        if rest := data[allowed:]:
            await self._pass(rest)

    async def end(self) -> None:
        """The answer is complete."""
        self._still_wanted()
        await self.protocol.stream_send(events.EndBody(stream_id=self.id))
        await self._ended()

    async def _ended(self) -> None:
        self.finish()
        if isinstance(self.protocol, H2):
            if self.complete:
                self.protocol.remove(self.id)  # else this stays, and drops what still comes
        else:
            await self.protocol.stream_send(events.StreamClosed(stream_id=self.id))
        if self._status is not None and self._status >= 400:
            await self._erred(self._status)
        self.connection.ended_one()

    async def _erred(self, status: int) -> None:
        """A 4xx or 5xx has left: a rule may have something to add."""
        script = self.fake.feed(Answered(self.connection.record.id, status, self.head.method), "error")
        if script is not None:
            added = self.fake.journal.ask(self.connection.record, "error", "", script.phase)
            await self.connection.perform(script, added)

    def _still_wanted(self) -> None:
        """Raises Gone where nobody waits for the answer."""
        if self.gone or self.over or not self.connection.alive:
            raise Gone

    def finish(self) -> None:
        """Nothing is in progress here any more."""
        if not self.over:
            self.over = True
            self.connection.live.pop(self.number, None)
            self.fake.feed(Ended(self.connection.record.id, "request", self.number))

    # ---- other ends ------------------------------------------------------------------------------

    async def reset(self, code: str, exchange: Exchange) -> None:
        """RST_STREAM; HTTP/1.1 has no streams, and loses its connection."""
        self.fake.journal.answer(exchange, f"RST_STREAM {code}")
        if isinstance(self.protocol, H2):
            self.protocol.reset(self.id, CODES[code])
            self.protocol.remove(self.id)
            await self.protocol.flush()
            self.gone = True
            self._go_on(Gone())
            self.finish()
            self.connection.ended_one()
        else:
            self.connection.finish("reset", exchange)

    def drop(self) -> None:
        """It is not served, and nothing is said about it: a GOAWAY has said so."""
        if isinstance(self.protocol, H2):
            self.protocol.forget(self.id)
        self.gone = True
        self.finish()

    async def hang(self, exchange: Exchange) -> None:
        """Never answer. That the client leaves is seen all the same."""
        self.fake.journal.tell(exchange)
        while not self.gone:
            self.news.clear()
            await self.news.wait()
        raise Gone


def known(head: Head, connection: HTTPConnection) -> dict[str, Any]:
    """What rules may ask about a request; see `notnow.moments`."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in head.headers}
    host = hostname(head.authority)
    length = headers.get("content-length", "")
    return {
        "command": head.method,
        "method": head.method,
        "authority": host,
        "host": host,
        "path": head.target.partition(b"?")[0].decode("latin-1"),
        "size": int(length) if length.isdecimal() else None,
        "header": headers,
        "misdirected": misdirected(host, connection),
    }


def misdirected(host: str, connection: HTTPConnection) -> tuple[str | bool, ...]:
    """Why a request has come to the wrong connection (RFC 9110 §7.4): "sni", "certificate", and True for either or no SNI."""
    if not connection.secure:
        return ()
    sni = connection.record.tls.sni if connection.record.tls is not None else None
    found: list[str | bool] = []
    if sni is not None and sni.lower() != host:
        found.append("sni")
    if not tls.covers(connection.names, host):
        found.append("certificate")
    return (*found, True) if found or sni is None else ()


def hostname(authority: str) -> str:
    """The host of an authority, without its port, in lower case."""
    host = authority.rpartition("@")[2].lower()
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.partition(":")[0].rstrip(".")


def encoded(headers: Iterable[tuple[str, str]]) -> Headers:
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


def reason(status: int) -> str:
    """The phrase of a status, as RFC 9110 has it."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
