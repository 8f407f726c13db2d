"""One SMTP session: aiosmtpd's parsing and state, with the engine asked before every step.

All private seams of aiosmtpd that notnow uses are in this module: `_handle_client`, `_reader`, `_writer`,
`_original_transport`, `_tls_protocol`, `_set_post_data_state`, `_getaddr`, and an instance copied from a
template instead of `__init__` (which costs more than a whole refused connection). tests/test_smtp_seams.py
has a test for each.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, assert_never

from aiosmtpd.smtp import SMTP, TLSSetupException
from aiosmtpd.smtp import Session as SMTPState

from notnow.actions import Alert, Certify, Close, Hang, Proceed, Script, Send, Wait, Watch
from notnow.engine import BEHAVE
from notnow.events import Answered, Asked, Ended, Heard, Reached
from notnow.journal import TLS, Connection, Exchange
from notnow.servers import _listener, tls

if TYPE_CHECKING:
    from notnow.servers.smtp import FakeSMTP

LONGEST_COMMAND = 12_288  # RFC 4954 §4: the longest line, of AUTH
LARGEST_MESSAGE = 33_554_432  # what SIZE announces
CHUNK = 65_536
QUIET = 0.05  # real seconds without a byte after which a TLS client has read its 421: TLS has no half-close

MOMENTS = {
    "EHLO": "ehlo", "HELO": "ehlo", "STARTTLS": "starttls", "AUTH": "auth", "MAIL": "mail", "RCPT": "rcpt",
    "DATA": "data", "RSET": "rset", "NOOP": "noop", "QUIT": "quit",
}  # fmt: skip
_PATH = re.compile(r"\s*(?:FROM|TO)\s*:\s*<?([^<>\s]*)>?\s*(.*)", re.IGNORECASE | re.DOTALL)
_SIMPLE = re.compile(r"<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)>(.*)", re.DOTALL)
_ERROR = re.compile(rb"(?:^|\n)([45][0-9][0-9])(?![0-9-])")


class _Over(Exception):
    """Nothing more is to be done in this session."""


class Session(SMTP):
    """A live SMTP connection of a fake."""

    fake: FakeSMTP
    record: Connection

    @classmethod
    def template(cls, fake: FakeSMTP) -> Session:
        """A session that others are copied from."""
        loop = fake.loop
        made = cls(
            fake, hostname=fake.hostname, ident="ESMTP notnow", enable_SMTPUTF8=True, auth_require_tls=False,
            data_size_limit=LARGEST_MESSAGE, loop=loop,
        )  # fmt: skip
        made._smtp_methods = {name: getattr(cls, f"smtp_{name}") for name in made._smtp_methods}
        return made

    def adopt(self, fake: FakeSMTP, record: Connection, greeting: Exchange, script: Script) -> Session:
        """A new session for a connection, with all that the template has worked out."""
        new = Session.__new__(Session)
        new.__dict__.update(self.__dict__)
        reader = asyncio.StreamReader(limit=CHUNK, loop=self.loop)
        asyncio.StreamReaderProtocol.__init__(new, reader, client_connected_cb=new._cb_client_connected, loop=self.loop)
        new.fake, new.record, new.exchange, new.opening = fake, record, greeting, script
        new.raw = None
        new.drip, new.instead = 0.0, None
        new.over = new.hanging = new.in_body = new.left = False
        new.watch = None
        return new

    # What a session has beside aiosmtpd's.
    exchange: Exchange
    opening: Script
    raw: socket.socket | None
    drip: float
    instead: tuple[str, ...] | None
    over: bool  # the fake has decided to close
    hanging: bool  # a stalled answer
    in_body: bool
    left: bool
    watch: int | None  # bytes of the body until `Reached`
    _linger: asyncio.TimerHandle | None = None

    # ---- the transport -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._original_transport is not None:  # STARTTLS is done
            super().connection_made(transport)
            self._note_tls(transport)
            return
        self._set_rset_state()
        self.session = self._create_session()
        self.session.peer = (self.record.client, self.record.peer_port)
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self.transport = transport
        if transport.get_extra_info("ssl_object") is not None:
            self.session.ssl = {}
            self._note_tls(transport)
        self._handler_coroutine = self.loop.create_task(self._handle_client())

    def _note_tls(self, transport: asyncio.BaseTransport) -> None:
        facts = self.record.tls = self.record.tls or TLS()
        facts.version = transport.get_extra_info("ssl_object").version()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Silence is the engine's business, not aiosmtpd's."""

    def data_received(self, data: bytes) -> None:
        if self.over:
            self._hear(data)
            return
        if not self.in_body and not self.left and data[-6:].upper() == b"QUIT\r\n":
            self.left = True
            self.fake.leaving(self.record.id)
        super().data_received(data)

    def eof_received(self) -> bool:
        self.fake.leaving(self.record.id)
        if self.over:
            self._end()
            return False
        self._reader.feed_eof()
        if self.hanging:
            assert self._handler_coroutine is not None
            self._handler_coroutine.cancel()
        return self._original_transport is None and not self.session.ssl

    def connection_lost(self, error: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        if self._handler_coroutine is not None and not self._handler_coroutine.done():
            self._handler_coroutine.cancel()
        self.transport = None
        self.fake._gone(self.record, str(error) if error else None)

    # ---- the loop over commands ----------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            await self._perform(self.opening, self.exchange, self._greet)
            while True:
                await self._command(await self._line())
        except (_Over, asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            pass
        except TLSSetupException as error:
            self._tls_failed(error.__cause__ or error)
        except Exception as error:
            self.fake.failed(error)
        finally:
            if not self.over:
                self._end()

    async def _greet(self) -> None:
        await self.push(f"220 {self.hostname} {self.__ident__}")

    async def _line(self) -> bytes:
        """The next command, without its line end; of a line that is too long, its beginning."""
        try:
            return (await self._reader.readuntil()).rstrip(b"\r\n")
        except asyncio.LimitOverrunError as error:
            start = await self._reader.readexactly(error.consumed)
            await self._skip_line()
            return start

    async def _skip_line(self) -> None:
        while True:
            try:
                await self._reader.readuntil()
                return
            except asyncio.LimitOverrunError as error:
                await self._reader.readexactly(error.consumed)

    async def _command(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        verb = word.upper().decode("ascii", "replace")
        request = line.decode("utf-8", "replace")
        if verb not in self._smtp_methods or len(line) > LONGEST_COMMAND or b"\0" in line:
            await self._ask("unknown", request, lambda: self._not_understood(line, verb), verb=verb)
            return
        argument = rest.strip().decode("utf-8", "surrogateescape") or None
        if verb == "AUTH":
            await self._auth(request, argument)
            return
        method = self._smtp_methods[verb]
        moment = MOMENTS.get(verb, verb.lower())
        await self._ask(moment, request, lambda: method(self, argument), **self._facts(verb, moment, argument))
        if self.left and verb != "QUIT":
            self.left = False

    async def _not_understood(self, line: bytes, verb: str) -> None:
        if len(line) > LONGEST_COMMAND:
            await self.push("500 5.5.2 Error: line too long")
        else:
            await self.push("500 5.5.2 Error: command not recognized")

    def _facts(self, verb: str, moment: str, argument: str | None) -> dict[str, Any]:
        facts: dict[str, Any] = {"verb": verb}
        if moment in ("mail", "rcpt"):
            path = _PATH.match(argument or "")
            address, parameters = (path[1], path[2].upper()) if path else (None, "")
            facts["sender" if moment == "mail" else "recipient"] = address
            if moment == "mail" and (size := re.search(r"\bSIZE=([0-9]+)", parameters)):
                facts["size"] = int(size[1])
        if moment in ("rcpt", "data"):
            facts["sender"] = self.envelope.mail_from
        if moment == "data":
            facts["recipient"] = tuple(self.envelope.rcpt_tos)
        return facts

    # ---- asking the engine, and doing what it says ---------------------------------------------

    async def _ask(
        self, moment: str, request: str, effect: Callable[[], Awaitable[None]], verb: str = "", **facts: Any
    ) -> None:
        """Ask about a command or a point of the protocol, and carry out the answer; `effect` is to behave."""
        exchange = self.fake.journal.ask(self.record, moment, request, self.fake.phase)
        if verb:
            facts["command"] = verb
        script = self.fake.feed(Asked(self.record.id, moment, facts), moment)
        if script is None:  # closed, by what time brought with it
            raise _Over
        await self._perform(script, exchange, effect)

    async def _perform(
        self, script: Script, exchange: Exchange, effect: Callable[[], Awaitable[None]], silent: bool = False
    ) -> None:
        if not silent:
            exchange.phase, exchange.rule, exchange.fault = script.phase, script.rule, script.fault
        for step in script.steps:
            if self.over:
                raise _Over
            match step:
                case Proceed(instead, drip):
                    self.exchange, self.instead, self.drip = exchange, instead, drip
                    await effect()
                    self.instead, self.drip = None, 0.0
                case Send(lines, drip):
                    await self._say("\r\n".join(lines).encode("utf-8", "surrogateescape"), exchange, drip)
                case Wait(seconds):
                    await self.fake.sleep(seconds)
                case Hang():
                    self.fake.journal.tell(exchange)
                    self.hanging = True
                    await self.loop.create_future()
                case Watch(count):
                    self.watch = count
                case Close(how):
                    self._finish(how, exchange)
                    raise _Over
                case Certify() | Alert():
                    raise AssertionError(f"{step} outside a handshake")
                case _:
                    assert_never(step)

    def unasked(self, script: Script) -> None:
        """A script that this client's last command has not brought about: a phase, a silence."""
        exchange = self.fake.journal.ask(self.record, script.moment, "", script.phase)
        if self.transport is None:  # not yet through its handshake
            exchange.rule, exchange.fault, exchange.closed = script.rule, script.fault, script.closes
            self.fake.journal.tell(exchange)
            if script.closes:
                self.abort()
            return
        self.fake.spawn(self._unasked(script, exchange))

    async def _unasked(self, script: Script, exchange: Exchange) -> None:
        try:
            await self._perform(script, exchange, _nothing)
        except (_Over, asyncio.CancelledError, ConnectionError):
            pass
        except Exception as error:
            self.fake.failed(error)

    async def push(self, status: str | bytes) -> None:
        """Every healthy reply comes through here; a rule may have put another in its place."""
        text = status.encode("utf-8", "surrogateescape") if isinstance(status, str) else status
        if self.instead is not None and not text.startswith(b"334"):
            lines, self.instead = self.instead, ()
            if not lines:
                return
            text = "\r\n".join(lines).encode("utf-8", "surrogateescape")
        await self._say(text, self.exchange, self.drip)

    async def _say(self, text: bytes, exchange: Exchange, drip: float = 0.0) -> None:
        """Send reply lines. They are in the journal before they are on the wire."""
        if self.over:
            raise _Over
        self.fake.journal.answer(exchange, text.decode("utf-8", "replace").replace("\r\n", "\n"))
        if drip:
            for byte in text + b"\r\n":
                self._writer.write(bytes([byte]))
                await self.fake.sleep(drip)
                if self.over:
                    raise _Over
        else:
            self._writer.write(text + b"\r\n")
        if self.transport is not None and self.transport.get_write_buffer_size():
            await self._writer.drain()
        if exchange.moment != "error" and (text[0] in b"45" or b"\n4" in text or b"\n5" in text):
            await self._erred(text, exchange)

    async def _erred(self, text: bytes, exchange: Exchange) -> None:
        """A 4yz or 5yz has left: a rule may have something to add."""
        for code in _ERROR.findall(text):
            verb = exchange.request.partition(" ")[0].upper()
            script = self.fake.feed(Answered(self.record.id, int(code), verb), "error")
            if script is not None:
                added = self.fake.journal.ask(self.record, "error", "", script.phase)
                await self._perform(script, added, _nothing)

    # ---- closing -------------------------------------------------------------------------------

    def _finish(self, how: str, exchange: Exchange) -> None:
        """The fake closes. What was said before must arrive: see `notnow.servers._listener`."""
        self.over = exchange.closed = True
        if exchange.reply is None:
            self.fake.journal.tell(exchange)
        self.fake.journal.close(self.record, "fake")
        transport = self.transport
        if transport is None:
            return
        if how == "reset":
            _listener.reset_on_close(transport.get_extra_info("socket"))
            transport.abort()
        elif how == "abrupt":
            transport.close()
        else:
            self._half_close(transport)

    def _half_close(self, transport: asyncio.Transport) -> None:
        buffered = bytes(self._reader._buffer)
        if buffered:
            self._hear(buffered)
        transport.resume_reading()
        self._lingers_until = self.loop.time() + _listener.LINGER
        if self._reader.at_eof():
            transport.close()
        elif transport.can_write_eof():
            transport.write_eof()
            self._linger = self.loop.call_later(_listener.LINGER, self._end)
        else:
            self._linger = self.loop.call_later(QUIET, self._end)

    _lingers_until = 0.0

    def _hear(self, data: bytes) -> None:
        """What a client says after the fake has decided to close."""
        self.record.said_after(data)
        if self._linger is not None and self.session.ssl is not None:
            self._linger.cancel()
            left = max(0.0, self._lingers_until - self.loop.time())
            self._linger = self.loop.call_later(min(QUIET, left), self._end)

    def _end(self) -> None:
        """Close the transport for good; a client that does not take its last bytes is cut off."""
        transport = self.transport
        if transport is not None:
            transport.close()
            if self.session is not None and self.session.ssl is not None or transport.get_write_buffer_size():
                self.loop.call_later(1.0, transport.abort)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
        elif self.raw is not None:
            _listener.reset(self.raw)
            self.fake._gone(self.record)

    def dismiss(self) -> bool:
        """RFC 5321 §3.8: a server that is shut down says 421 before it closes."""
        if self.over:
            return True
        if self.transport is None or self.hanging:
            return False
        exchange = self.fake.journal.ask(self.record, "enter", "", self.fake.phase)
        exchange.fault = "stopped"
        reply = f"421 4.3.2 {self.hostname} Service not available, closing transmission channel"
        self.fake.journal.answer(exchange, reply)
        self._writer.write(reply.encode() + b"\r\n")
        if self._handler_coroutine is not None:
            self._finish("fin", exchange)
            self._handler_coroutine.cancel()
        return True

    # ---- TLS -----------------------------------------------------------------------------------

    async def implicit(self, sock: socket.socket) -> None:
        """A port where TLS comes first (RFC 8314 §3.3)."""
        self.raw = sock
        tls.current.set(self)
        try:
            await self.loop.connect_accepted_socket(
                lambda: self, sock, ssl=self.fake.context(), ssl_handshake_timeout=30, ssl_shutdown_timeout=1
            )
        except (OSError, ssl.SSLError, asyncio.CancelledError) as error:
            self._tls_failed(error)
            self.fake._gone(self.record)

    async def plain(self, sock: socket.socket) -> None:
        self.raw = sock
        await self.loop.connect_accepted_socket(lambda: self, sock)

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if self.session.ssl is not None:
            await self.push("503 5.5.1 Error: TLS already active")
            return
        if self.fake.tls != "starttls":
            await self.push("502 5.5.1 Error: command not implemented")
            return
        self.tls_context = self.fake.context()
        self.raw = self.transport.get_extra_info("socket")
        tls.current.set(self)
        self.fake.feed(Ended(self.record.id, "mail"))
        await super().smtp_STARTTLS(arg or "")

    def hello(self, sni: str | None) -> tuple[tls.Shown | None, str | None]:
        """Called in the handshake, with the name that the client asks for."""
        script = self.fake.hello(self.record, sni)
        name = alert = None
        for step in script.steps if script else ():
            match step:
                case Certify():
                    name = step.name
                case Alert():
                    alert = step.name
                    tls.send_alert(self.raw, alert)
                case Close(how):
                    alert = alert or "internal_error"  # never sent: it only ends the handshake
                    if how == "reset":
                        _listener.reset_on_close(self.raw)
        label, shown = self.fake.shown(name, sni)
        if self.record.tls is not None and alert is None:
            self.record.tls.certificate = label
        if script is not None and script.rule:
            exchange = self.fake.journal.ask(self.record, "tls", sni or "", script.phase)
            exchange.rule, exchange.fault, exchange.closed = script.rule, script.fault, alert is not None
            self.fake.journal.tell(exchange)
        return shown, alert

    def _tls_failed(self, error: BaseException) -> None:
        facts = self.record.tls = self.record.tls or TLS()
        facts.error = getattr(error, "reason", None) or str(error) or type(error).__name__
        self.record.error = f"TLS handshake failed: {facts.error}"
        if self.transport is not None:
            self.transport.abort()

    # ---- commands ------------------------------------------------------------------------------

    def _create_session(self) -> SMTPState:
        return SMTPState(self.loop)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """aiosmtpd's parser is thorough and slow; nearly all addresses are plain."""
        simple = _SIMPLE.match(arg)
        return (simple[1], simple[2]) if simple else super()._getaddr(arg)

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if not hostname:
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self._reset_transaction()
        self.session.extended_smtp, self.session.host_name = True, hostname
        offers = [self.hostname, "PIPELINING", f"SIZE {LARGEST_MESSAGE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self.fake.tls == "starttls" and self.session.ssl is None:
            offers.append("STARTTLS")
        offers += ["AUTH PLAIN LOGIN", "HELP"]
        await self.push("\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"]))

    async def smtp_HELO(self, hostname: str | None) -> None:
        self._reset_transaction()
        await super().smtp_HELO(hostname or "")

    async def smtp_RSET(self, arg: str | None) -> None:
        self._reset_transaction()
        await super().smtp_RSET(arg or "")

    def _reset_transaction(self) -> None:
        self._set_rset_state()
        self.fake.feed(Ended(self.record.id, "mail"))

    async def smtp_MAIL(self, arg: str | None) -> None:
        if self.fake.users is not None and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
        else:
            await super().smtp_MAIL(arg)
        if self.envelope.mail_from is None:
            self.fake.feed(Ended(self.record.id, "mail"))

    async def smtp_QUIT(self, arg: str | None) -> None:
        self.fake.leaving(self.record.id)
        await self.push("221 2.0.0 Bye")
        raise _Over

    async def _auth(self, request: str, argument: str | None) -> None:
        """AUTH PLAIN and LOGIN (RFC 4954): the engine is asked once the credentials are in."""
        mechanism, _, initial = (argument or "").partition(" ")
        mechanism = mechanism.upper()
        shown = f"AUTH {mechanism}" + (" ********" if initial else "")
        refusal = self._auth_refusal(mechanism)
        if refusal:
            await self._ask("auth", shown, lambda: self.push(refusal), verb="AUTH")
            return
        self.exchange = self.fake.journal.ask(self.record, "challenge", shown, self.fake.phase)
        try:
            user, password = await self._credentials(mechanism, initial.strip())
        except ValueError as error:
            complaint = str(error)
            await self._ask("auth", shown, lambda: self.push(complaint), verb="AUTH")
            return
        await self._ask("auth", shown, lambda: self._log_in(user, password), verb="AUTH", user=user)

    def _auth_refusal(self, mechanism: str) -> str | None:
        if not self.session.extended_smtp:
            return "503 5.5.1 Error: send EHLO first"
        if self.session.authenticated:
            return "503 5.5.1 Error: already authenticated"
        if mechanism not in ("PLAIN", "LOGIN"):
            return "504 5.5.4 Error: unrecognized authentication type"
        return None

    async def _credentials(self, mechanism: str, initial: str) -> tuple[str, str]:
        if mechanism == "PLAIN":
            parts = (await self._response("", initial)).split("\0")
            if len(parts) != 3:
                raise ValueError("501 5.5.2 Error: cannot split the credentials")
            return parts[1], parts[2]
        user = await self._response("User Name\0", initial)
        return user, await self._response("Password\0", "")

    async def _response(self, challenge: str, initial: str) -> str:
        """The client's answer to a challenge. Raises ValueError with the reply to an answer that is none."""
        if not initial:
            await self.push(b"334 " + base64.b64encode(challenge.encode()))
            initial = (await self._line()).decode("ascii", "replace").strip()
        if initial == "*":
            raise ValueError("501 5.7.0 Authentication cancelled")
        try:
            return base64.b64decode("" if initial == "=" else initial, validate=True).decode("utf-8", "replace")
        except binascii.Error:
            raise ValueError("501 5.5.2 Error: cannot decode base64") from None

    async def _log_in(self, user: str, password: str) -> None:
        users = self.fake.users
        if users is not None and users.get(user) != password:
            await self.push("535 5.7.8 Error: authentication credentials invalid")
            return
        self.session.authenticated = True
        self.session.login_data = user
        await self.push("235 2.7.0 Authentication successful")

    # ---- the message ---------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str | None) -> None:
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        self.instead, self.drip = None, 0.0
        self.in_body = True
        try:
            await self._message()
        finally:
            self.in_body = self.left = False
            self.fake.feed(Ended(self.record.id, "mail"))

    async def _message(self) -> None:
        facts = {"sender": self.envelope.mail_from, "recipient": tuple(self.envelope.rcpt_tos)}
        body = Body(LARGEST_MESSAGE)
        if await self._read(body, facts):
            return
        request = f"({body.size} bytes)"
        if body.too_large:
            await self._ask("message", request, lambda: self._give_up("552 5.3.4 Error: message too large"), **facts)
            return
        self.envelope.content = content = body.content()
        headers = LazyHeaders(content)
        await self._ask("message", request, self._store, **facts, header=headers, size=len(content))
        self._set_post_data_state()

    async def _read(self, body: Body, facts: dict[str, Any]) -> bool:
        """Read to the final dot. The moment `body` is decided now, and may act when its byte has come.

        True if the message has been answered on the way.
        """
        script = self.fake.feed(Asked(self.record.id, "body", facts), "body")
        if script is None:
            raise _Over
        self.watch = None
        if script.steps != BEHAVE:
            await self._perform(script, self.exchange, _nothing, silent=True)
        answered = False
        while not body.complete:
            chunk = await self._reader.read(CHUNK)
            if not chunk:
                raise asyncio.IncompleteReadError(b"", None)
            rest = body.feed(chunk)
            if rest:
                self._reader._buffer[:0] = rest
            self.fake.feed(Heard(self.record.id))
            if self.watch is not None and body.size >= self.watch:
                self.watch = None
                answered = await self._reached(body)
        return answered

    async def _reached(self, body: Body) -> bool:
        script = self.fake.feed(Reached(self.record.id), "body")
        if script is None:
            return False
        exchange = self.fake.journal.ask(self.record, "body", f"({body.size} bytes so far)", script.phase)
        await self._perform(script, exchange, _nothing)
        return exchange.reply is not None

    async def _give_up(self, reply: str) -> None:
        self._set_post_data_state()
        await self.push(reply)

    async def _store(self) -> None:
        self.exchange.facts = self.fake.keep(self.record, self.envelope, self.session.login_data)
        await self.push("250 2.0.0 Ok: queued")


async def _nothing() -> None:
    """What it means to behave where nothing was asked."""


class LazyHeaders(Mapping[str, str]):
    """The headers of a message by their lower-case names, parsed when a rule asks for one."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @cached_property
    def _parsed(self) -> dict[str, str]:
        from email.parser import BytesHeaderParser

        return {name.lower(): str(value) for name, value in BytesHeaderParser().parsebytes(self._content).items()}

    def __getitem__(self, name: str) -> str:
        return self._parsed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed)

    def __len__(self) -> int:
        return len(self._parsed)


class Body:
    """A message as it comes in, up to its final dot (RFC 5321 §4.1.1.4): CRLF, a dot, CRLF and nothing less.

    `size` counts the bytes of the message, the final dot not among them. What is beyond `limit` is counted
    and not kept.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.complete = self.too_large = False
        self._limit = limit
        self._kept = bytearray(b"\r\n")  # so that the dot may stand on the first line

    def feed(self, data: bytes) -> bytes:
        """Take bytes; give back those that came after the end."""
        kept = self._kept
        start = max(0, len(kept) - 4)
        kept += data
        end = kept.find(b"\r\n.\r\n", start)
        if end < 0:
            self.size += len(data)
            if len(kept) > self._limit:
                self.too_large = True
                del kept[:-4]
            return b""
        rest = bytes(kept[end + 5 :])
        self.size += len(data) - len(rest) - 3
        self.complete = True
        del kept[end + 2 :]
        return rest

    def content(self) -> bytes:
        """The message, without the dots that were put before its dots (RFC 5321 §4.5.2)."""
        kept = self._kept
        return bytes((kept.replace(b"\r\n..", b"\r\n.") if b"\r\n.." in kept else kept)[2:])
