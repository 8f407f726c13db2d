"""One SMTP session: aiosmtpd's parsing and state, with the engine asked before every step.

All private seams of aiosmtpd that notnow uses are in this module: `_handle_client`, `_reader`, `_writer`,
`_original_transport`, `_tls_protocol`, `_handler_coroutine`, `_smtp_methods`, `_reset_timeout`,
`_set_rset_state`, `_set_post_data_state`, `_create_session`, `_getaddr`, and an instance copied from a
template instead of `__init__` (which costs more than a whole refused connection). tests/test_smtp_seams.py
has a test for each.
"""

# ruff: noqa: N802, ARG002 (the names and arguments of aiosmtpd's methods)
from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from email.errors import HeaderParseError
from typing import TYPE_CHECKING, Any, assert_never, cast

from aiosmtpd.smtp import SMTP, TLSSetupException
from aiosmtpd.smtp import Envelope as Transaction
from aiosmtpd.smtp import Session as SMTPState

from notnow.actions import Alert, Certify, Close, Hang, Proceed, Script, Send, Wait, Watch
from notnow.events import Answered, Asked, Ended, Heard, Reached
from notnow.journal import TLS, Connection, Exchange
from notnow.servers import _listener, _smtp_auth, tls
from notnow.servers._smtp_body import Body, LazyHeaders

if TYPE_CHECKING:
    from notnow.servers.smtp import FakeSMTP

LONGEST_COMMAND = 12_288  # RFC 4954 §4: the longest line, of AUTH
LARGEST_MESSAGE = 33_554_432  # what SIZE announces
CHUNK = 65_536
TURN = 64  # commands of one client that are served before others have their turn
QUIET = 0.05  # real seconds without a byte after which a TLS client has read its 421: TLS has no half-close
HANDSHAKE = 30.0  # real seconds that a TLS handshake may take
SHUTDOWN = 1.0  # real seconds that a client has for taking its last bytes

MOMENTS = {
    "EHLO": "ehlo", "HELO": "ehlo", "STARTTLS": "starttls", "AUTH": "auth", "MAIL": "mail", "RCPT": "rcpt",
    "DATA": "data", "RSET": "rset", "NOOP": "noop", "QUIT": "quit",
}  # fmt: skip
_SIMPLE = re.compile(r"<([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+)>(.*)", re.DOTALL)
_SIZE = re.compile(r"(?:^|\s)SIZE=([0-9]{1,18})(?:\s|$)", re.IGNORECASE)
_ON_BEHALF = re.compile(r"\s+AUTH=\S+", re.IGNORECASE)
_ERROR = re.compile(rb"(?:^|\n)([45][0-9][0-9])(?![0-9-])")
_SECRET = re.compile(r"(AUTH\s+\S+\s+)\S+", re.IGNORECASE)

Effect = Callable[[], Awaitable[None]]  # what it means to behave


class _Over(Exception):  # noqa: N818 (no error)
    """Nothing more is to be done in this session."""


class Session(SMTP):
    """A live SMTP connection of a fake."""

    # aiosmtpd's, which are there for as long as we look at them.
    session: SMTPState
    envelope: Transaction
    transport: asyncio.Transport
    # Ours.
    fake: FakeSMTP
    record: Connection
    exchange: Exchange  # what the client's last command is about
    opening: Script
    raw: socket.socket  # the socket below TLS, for what has to be done to it during a handshake
    implicit: bool  # TLS comes before the greeting
    early: list[tuple[Script, Exchange]]  # what is to be said unasked before there is a transport
    instead: tuple[str, ...] | None = None  # the reply that a rule has put in place of the healthy one
    drip: float = 0.0
    ending: bool = False  # the fake closes once it has said the healthy reply
    alive: bool = False  # there is a transport
    secure: bool = False  # in TLS
    handshaking: bool = False  # on the way there, after STARTTLS
    over: bool = False  # the fake has said its last word
    parting: bool = False  # somebody is about to say it
    hanging: bool = False  # a stalled answer: what the client says is not heard
    in_body: bool = False
    left: bool = False  # the engine knows that the client is going
    user: str | None = None  # who is logged in
    size: int | None = None  # what MAIL said of the message
    watch: int | None = None  # bytes of the body until `Reached`
    refusal: str | None = None  # how a rule has ended the handshake
    _mouth: asyncio.Lock | None = None  # held while a reply drips, so that no other gets between its bytes
    _linger: asyncio.TimerHandle | None = None
    _lingers_until: float = 0.0
    _opener: asyncio.Task[None] | None = None  # until the connection is made

    @classmethod
    def template(cls, fake: FakeSMTP) -> Session:
        """A session that others are copied from."""
        made = cls(
            object(), hostname=fake.hostname, ident="ESMTP notnow", enable_SMTPUTF8=True, auth_require_tls=False,
            data_size_limit=LARGEST_MESSAGE, loop=fake.loop,
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
        new.early = []
        return new

    def open(self, sock: socket.socket, implicit: bool) -> None:
        """Begin: with a greeting, or with a TLS handshake (RFC 8314 §3.3)."""
        self.raw, self.implicit = sock, implicit
        self._opener = self.fake.spawn(self._shake_hands(sock) if implicit else self._connect(sock))
        self._opener.add_done_callback(self._opened)

    async def _connect(self, sock: socket.socket) -> None:
        await self.loop.connect_accepted_socket(lambda: self, sock)

    async def _shake_hands(self, sock: socket.socket) -> None:
        tls.current.set(self)
        try:
            await self.loop.connect_accepted_socket(
                lambda: self,
                sock,
                ssl=self.fake.context(),
                ssl_handshake_timeout=HANDSHAKE,
                ssl_shutdown_timeout=SHUTDOWN,
            )
        except OSError as error:
            self._tls_failed(error)

    def _opened(self, opener: asyncio.Task[None]) -> None:
        """The connection has been made, or it never will be."""
        self._opener = None
        if not opener.cancelled() and (error := opener.exception()) is not None:
            self.fake.failed(error)
        if not self.alive:
            self.raw.close()
            self.fake._gone(self.record)

    # ---- the transport -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if self.alive:  # STARTTLS is done
            super().connection_made(transport)
            self._note_tls(transport)
            return
        self._set_rset_state()
        self.session = self._create_session()
        self.session.peer = self.record.client
        asyncio.StreamReaderProtocol.connection_made(self, transport)
        self.transport, self.alive = transport, True
        if transport.get_extra_info("ssl_object") is not None:
            self._note_tls(transport)
        self._handler_coroutine = self.loop.create_task(self._handle_client())
        for script, exchange in self.early:
            self.fake.spawn(self._unasked(script, exchange))
        self.early.clear()

    def _note_tls(self, transport: asyncio.Transport) -> None:
        self.secure, self.handshaking = True, False
        facts = self.record.tls = self.record.tls or TLS()
        facts.version = transport.get_extra_info("ssl_object").version()

    def _create_session(self) -> SMTPState:
        self.user = None  # RFC 3207 §4.2: after STARTTLS nothing is known of the client
        return SMTPState(self.loop)

    def _reset_timeout(self, duration: float | None = None) -> None:
        """Silence is the engine's business, not aiosmtpd's."""

    def _set_rset_state(self) -> None:
        self._set_post_data_state()

    def _set_post_data_state(self) -> None:
        self.envelope = Transaction()
        self.size = None

    def data_received(self, data: bytes) -> None:
        if self.over:
            self._hear(data)
        elif not self.hanging:
            if data[-6:].upper() == b"QUIT\r\n" and not self.in_body:
                self._leave()
            super().data_received(data)

    def _leave(self) -> None:
        """The client is going: its places are free."""
        if not self.left:
            self.left = True
            self.fake.leaving(self.record.id)

    def eof_received(self) -> bool:
        self._leave()
        if self.over:
            self._end()
            return False
        self._reader.feed_eof()
        if self.hanging and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        return not self.secure  # a client that has ended its side may still read; TLS has no such thing

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if self._linger is not None:
            self._linger.cancel()
        if self._original_transport is not None:
            self._original_transport.close()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        self.fake._gone(self.record, str(error) if error else None)

    # ---- the loop over commands ----------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            await self._perform(self.opening, self.exchange, self._greet)
            await self._serve()
        except _Over:
            if self.parting and not self.over:
                return  # whoever is about to say the last word will close as well
        except (asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        except TLSSetupException as error:
            self._starttls_failed(error.__cause__ or error)
        except Exception as error:
            if not self._lost(error):
                self.fake.failed(error)
        if not self.over:
            self._end()

    def _lost(self, error: Exception) -> bool:
        """True if this is only how the connection has ended."""
        return isinstance(error, ConnectionError) or error is self._reader.exception()

    async def _serve(self) -> None:
        while True:
            for _ in range(TURN):
                line = await self._line()
                await self._command(line)
                if self.transport.get_write_buffer_size():
                    await self._writer.drain()
            await asyncio.sleep(0)

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
            await self._ask("unknown", masked(request), lambda: self._not_understood(line), command=verb)
            return
        argument = rest.strip().decode("utf-8", "surrogateescape") or None
        if verb == "AUTH":
            await self._auth(argument)
            return
        method = self._smtp_methods[verb]
        moment = MOMENTS.get(verb, verb.lower())
        await self._ask(moment, request, lambda: method(self, argument), **self._facts(verb, moment, argument))

    async def _not_understood(self, line: bytes) -> None:
        what = "line too long" if len(line) > LONGEST_COMMAND else "command not recognized"
        await self.push(f"500 5.5.2 Error: {what}")

    def _facts(self, verb: str, moment: str, argument: str | None) -> dict[str, Any]:
        """What is known at a command; see `notnow.moments`."""
        if moment == "mail":
            address, parameters = self._path("FROM:", argument)
            found = _SIZE.search(parameters)
            self.size = int(found[1]) if found else None
            return {"command": verb, "sender": address, "size": self.size}
        if moment == "rcpt":
            return {"command": verb, "recipient": self._path("TO:", argument)[0], **self._mail_facts()}
        if moment == "data":
            return {"command": verb, "recipient": tuple(self.envelope.rcpt_tos), **self._mail_facts()}
        return {"command": verb}

    def _mail_facts(self) -> dict[str, Any]:
        return {"sender": bare(self.envelope.mail_from), "size": self.size}

    def _path(self, keyword: str, argument: str | None) -> tuple[str | None, str]:
        """The address and the parameters after FROM: or TO:; None where there is no address."""
        rest = self._strip_command_keyword(keyword, argument or "")
        address, parameters = self._getaddr(rest) if rest else (None, "")
        return bare(address), parameters or ""

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """aiosmtpd's parser is thorough and slow, and trips over some garbage; nearly all addresses are plain."""
        if simple := _SIMPLE.match(arg):
            return simple[1], simple[2]
        try:
            return super()._getaddr(arg)
        except (HeaderParseError, IndexError):
            return None, None

    # ---- asking the engine, and doing what it says ---------------------------------------------

    async def _ask(self, moment: str, request: str, effect: Effect, **facts: Any) -> None:
        """Ask about a command or a point of the protocol, and carry out the answer; `effect` is to behave."""
        exchange = self.exchange = self.fake.journal.ask(self.record, moment, request, self.fake.phase)
        script = self.fake.feed(Asked(self.record.id, moment, facts), moment)
        if script is None:  # closed, by what time brought with it
            raise _Over
        await self._perform(script, exchange, effect)

    async def _perform(self, script: Script, exchange: Exchange, effect: Effect | None = None) -> None:
        """Carry out a script. Where nothing was asked there is no effect, and to behave is to say the reply."""
        exchange.phase, exchange.rule, exchange.fault = script.phase, script.rule, script.fault
        for step in script.steps:
            self._still_here()
            match step:
                case Proceed(instead, drip):
                    if effect is not None:
                        await self._behave(effect, instead, drip, script.closes and instead != ())
                    elif instead:
                        await self._say(_wire(instead), exchange, drip, script.closes)
                case Send(lines, drip):
                    await self._say(_wire(lines), exchange, drip, script.closes)
                case Wait(seconds):
                    await self.fake.sleep(seconds)
                case Hang():
                    await self._hang(exchange)
                case Close(how):
                    self._finish(how, exchange)
                    raise _Over
                case Certify() | Alert() | Watch():
                    raise AssertionError(f"{step} is for a handshake, or for a body")
                case _:
                    assert_never(step)

    def _still_here(self) -> None:
        if self.over or not self.alive:
            raise _Over

    async def _behave(self, effect: Effect, instead: tuple[str, ...] | None, drip: float, ending: bool) -> None:
        self.instead, self.drip, self.ending = instead, drip, ending
        await effect()
        self.instead, self.drip, self.ending = None, 0.0, False

    async def _hang(self, exchange: Exchange) -> None:
        """Say nothing for ever. What the client says is read and dropped, so that its leaving is seen."""
        self.fake.journal.tell(exchange)
        self.hanging = True
        unread(self._reader).clear()
        self.transport.resume_reading()
        if self._reader.at_eof():
            raise _Over
        await self.loop.create_future()

    def unasked(self, script: Script) -> None:
        """A script that this client's last command has not brought about: a phase, a silence."""
        exchange = self.fake.journal.ask(self.record, script.moment, "", script.phase)
        self.parting = self.parting or script.closes
        if self.handshaking or (self.implicit and not self.alive):  # nothing can be said to it
            self._cut_off(script, exchange)
        elif self.alive:
            self.fake.spawn(self._unasked(script, exchange))
        else:
            self.early.append((script, exchange))

    def _cut_off(self, script: Script, exchange: Exchange) -> None:
        exchange.rule, exchange.fault, exchange.closed = script.rule, script.fault, script.closes
        self.fake.journal.tell(exchange)
        if script.closes:
            self._decided()
            self.abort()

    async def _unasked(self, script: Script, exchange: Exchange) -> None:
        try:
            await self._perform(script, exchange)
        except _Over:
            pass
        except Exception as error:
            if not self._lost(error):
                self.fake.failed(error)

    async def push(self, status: str | bytes) -> None:
        """Every healthy reply comes through here; a rule may have put another in its place."""
        text = status.encode("utf-8", "surrogateescape") if isinstance(status, str) else status
        if self.instead is not None:
            lines, self.instead = self.instead, ()
            if not lines:
                return
            text = _wire(lines)
        await self._say(text, self.exchange, self.drip, self.ending)

    async def _say(self, text: bytes, exchange: Exchange, drip: float = 0.0, ending: bool = False) -> None:
        """Send reply lines. They are in the journal before they are on the wire, and so is the close that follows."""
        if drip or self._mouth is not None:
            await self._drip(text, exchange, drip, ending)
        else:
            self._write(text, exchange, ending)
        if exchange.moment != "error" and (text[0] in b"45" or b"\n4" in text or b"\n5" in text):
            await self._erred(text, exchange)

    def _write(self, text: bytes, exchange: Exchange, ending: bool) -> None:
        self._still_here()
        self._note(text, exchange, ending)
        self._writer.write(text + b"\r\n")

    def _note(self, text: bytes, exchange: Exchange, ending: bool) -> None:
        exchange.closed = exchange.closed or ending
        self.fake.journal.answer(exchange, text.decode("utf-8", "replace").replace("\r\n", "\n"))
        if ending:
            self._decided()

    async def _drip(self, text: bytes, exchange: Exchange, pause: float, ending: bool) -> None:
        self._mouth = self._mouth or asyncio.Lock()
        async with self._mouth:
            if not pause:
                self._write(text, exchange, ending)
                return
            self._still_here()
            self._note(text, exchange, ending)
            for i, byte in enumerate(text + b"\r\n"):
                if i:
                    await self.fake.sleep(pause)
                if not self.alive:
                    raise _Over
                self.fake.feed(Heard(self.record.id))  # who waits for our answer is not idle
                self._writer.write(bytes([byte]))
            exchange.answered_at = self.fake.clock.now()

    async def _erred(self, text: bytes, exchange: Exchange) -> None:
        """A 4yz or 5yz has left: a rule may have something to add."""
        for code in _ERROR.findall(text):
            verb = exchange.request.partition(" ")[0].upper() if exchange.moment != "auth" else "AUTH"
            script = self.fake.feed(Answered(self.record.id, int(code), verb), "error")
            if script is not None:
                added = self.fake.journal.ask(self.record, "error", "", script.phase)
                await self._perform(script, added)

    # ---- closing -------------------------------------------------------------------------------

    def _decided(self) -> None:
        if self.record.ended_by is None:
            self.fake.journal.close(self.record, "fake")

    def _finish(self, how: str, exchange: Exchange) -> None:
        """The fake closes. What was said before must arrive: see `notnow.servers._listener`."""
        self.over = exchange.closed = True
        if exchange.reply is None:
            self.fake.journal.tell(exchange)
        self._decided()
        if how == "reset":
            _listener.reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()
        elif how == "abrupt":
            self._hang_up()
        else:
            self._half_close()

    def _hang_up(self) -> None:
        """Close now: in TLS without the goodbye, for which asyncio would wait."""
        if self.secure and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self._end()

    def _half_close(self) -> None:
        transport, buffer = self.transport, unread(self._reader)
        if buffer:
            self._hear(bytes(buffer))
            buffer.clear()
        if self._reader.at_eof():
            self._end()
            return
        transport.resume_reading()
        self._lingers_until = self.loop.time() + _listener.LINGER
        if self.secure:
            self._linger = self.fake.soon(QUIET, self._end)
        else:
            self._linger = self.loop.call_later(_listener.LINGER, self._end)
            try:
                transport.write_eof()
            except OSError:  # the client has reset it, and we have not been told yet
                transport.abort()

    def _hear(self, data: bytes) -> None:
        """What a client says after the fake has decided to close."""
        self.fake.heard_after(self.record, data)
        if self._linger is not None and self.secure:
            self._linger.cancel()
            left = max(0.0, self._lingers_until - self.loop.time())
            self._linger = self.fake.soon(min(QUIET, left), self._end)

    def _end(self) -> None:
        """Close the transport for good; a client that does not take its last bytes is cut off."""
        if self.alive and not self.transport.is_closing():
            self.over = True
            self.transport.close()
            if self.secure or self.transport.get_write_buffer_size():
                self._linger = self.loop.call_later(SHUTDOWN, self.transport.abort)

    def abort(self) -> None:
        """End at once, without a word."""
        if self.alive:
            self.transport.abort()
        elif self._opener is not None:
            self._opener.cancel()

    def dismiss(self) -> bool:
        """RFC 5321 §3.8: a server that is shut down says 421 before it closes."""
        if self.over:
            return True
        if not self.alive or self.handshaking or self.hanging or (self._mouth is not None and self._mouth.locked()):
            return False
        exchange = self.fake.journal.ask(self.record, "enter", "", self.fake.phase)
        exchange.fault = "stopped"
        self._write(
            f"421 4.3.2 {self.hostname} Service not available, closing transmission channel".encode(), exchange, True
        )
        self._finish("fin", exchange)
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        return True

    # ---- TLS -----------------------------------------------------------------------------------

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        if self.secure:
            await self.push("503 5.5.1 Error: TLS already active")
            return
        if self.fake.tls != "starttls":
            await self.push("502 5.5.1 Error: command not implemented")
            return
        self.tls_context = self.fake.context()
        self.raw = self.transport.get_extra_info("socket")
        self.fake.feed(Ended(self.record.id, "mail"))
        if arg:
            await self.push("501 5.5.4 Syntax: STARTTLS")
            return
        tls.current.set(self)
        self.handshaking = True
        await super().smtp_STARTTLS("")
        if self.handshaking:  # asyncio wakes us with no error when the connection was aborted
            raise TLSSetupException("the connection was lost")

    @property
    def raw_transport(self) -> asyncio.Transport:
        """The transport below TLS, once STARTTLS has been said."""
        return cast("asyncio.Transport", self._original_transport)

    def hello(self, sni: str | None) -> tuple[tls.Shown | None, str | None]:
        """Called in the handshake, with the name that the client asks for."""
        try:
            return self._hello(sni)
        except Exception as error:  # OpenSSL would swallow it
            self.fake.failed(error)
            return None, "internal_error"

    def _hello(self, sni: str | None) -> tuple[tls.Shown | None, str | None]:
        script = self.fake.hello(self.record, sni)
        name = alert = None
        for step in script.steps if script else ():
            if isinstance(step, Certify):
                name = step.name
            elif isinstance(step, Alert):
                alert = step.name
                self.refusal = f"refused with the alert {alert}"
                tls.send_alert(self.raw, alert)
            elif isinstance(step, Close):
                alert = alert or "internal_error"  # never sent: it only ends the handshake
                self.refusal = self.refusal or "closed"
                if step.how == "reset":
                    _listener.reset_on_close(self.raw)
        label, shown = self.fake.shown(name, sni)
        if self.record.tls is not None and alert is None:
            self.record.tls.certificate = label
        if script is not None and script.rule:
            self._journal_hello(script, sni, alert is not None)
        return shown, alert

    def _journal_hello(self, script: Script, sni: str | None, ends: bool) -> None:
        exchange = self.fake.journal.ask(self.record, "tls", sni or "", script.phase)
        exchange.rule, exchange.fault, exchange.closed = script.rule, script.fault, ends
        self.fake.journal.tell(exchange)
        if ends:
            self._decided()

    def _tls_failed(self, error: BaseException) -> None:
        facts = self.record.tls = self.record.tls or TLS()
        facts.error = self.refusal or getattr(error, "reason", None) or str(error) or type(error).__name__
        self.record.error = f"TLS handshake failed: {facts.error}"
        if isinstance(error, ssl.SSLError) and "ALERT" not in (error.reason or ""):
            self._decided()

    def _starttls_failed(self, error: BaseException) -> None:
        """asyncio tells nobody that the connection below a failed handshake is lost."""
        self._tls_failed(error)
        self.over = True
        self.raw_transport.abort()
        if self.alive:
            self.connection_lost(None)

    # ---- commands ------------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if not hostname:
            await self.push("501 5.5.4 Syntax: EHLO hostname")
            return
        self._reset_transaction()
        self.session.extended_smtp, self.session.host_name = True, hostname
        offers = [self.hostname, "PIPELINING", f"SIZE {LARGEST_MESSAGE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        if self.fake.tls == "starttls" and not self.secure:
            offers.append("STARTTLS")
        offers += ["AUTH PLAIN LOGIN", "HELP"]
        await self.push("\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"]))

    async def smtp_HELO(self, hostname: str | None) -> None:
        self._reset_transaction()
        await super().smtp_HELO(hostname or "")

    async def smtp_HELP(self, arg: str | None) -> None:
        await self.push(f"214 2.0.0 Commands: {' '.join(sorted(self._smtp_methods))}")

    async def smtp_RSET(self, arg: str | None) -> None:
        self._reset_transaction()
        await self.push("250 2.0.0 Ok")

    def _reset_transaction(self) -> None:
        self._set_rset_state()
        self.fake.feed(Ended(self.record.id, "mail"))

    async def smtp_MAIL(self, arg: str | None) -> None:
        if self.fake.users is not None and not self.session.authenticated:
            await self.push("530 5.7.0 Authentication required")
        else:
            # RFC 4954 §5: who offers AUTH takes the parameter, and may ignore it.
            await super().smtp_MAIL(_ON_BEHALF.sub("", arg) if arg else arg)
        if self.envelope.mail_from is None:
            self.fake.feed(Ended(self.record.id, "mail"))

    async def smtp_QUIT(self, arg: str | None) -> None:
        self._leave()
        await self.push("221 2.0.0 Bye")
        raise _Over

    async def _auth(self, argument: str | None) -> None:
        """AUTH (RFC 4954): the engine is asked once the credentials are in."""
        mechanism, _, initial = (argument or "").partition(" ")
        mechanism, initial = mechanism.upper(), initial.strip()
        request = f"AUTH {mechanism}".strip() + (" ********" if initial else "")
        if refusal := self._auth_refusal(mechanism):
            await self._ask("auth", request, lambda: self.push(refusal), command="AUTH")
            return
        dialogue = _smtp_auth.MECHANISMS[mechanism](initial)
        try:
            user, password, request = await self._talk(dialogue, request)
        except _smtp_auth.Refusal as why:
            reply = str(why)
            await self._ask("auth", request, lambda: self.push(reply), command="AUTH")
            return
        await self._ask("auth", request, lambda: self._log_in(user, password), command="AUTH", user=user)

    def _auth_refusal(self, mechanism: str) -> str | None:
        if not self.session.extended_smtp:
            return "503 5.5.1 Error: send EHLO first"
        if self.session.authenticated:
            return "503 5.5.1 Error: already authenticated"
        if mechanism not in _smtp_auth.MECHANISMS:
            return "504 5.5.4 Error: unrecognized authentication type"
        return None

    async def _talk(self, dialogue: _smtp_auth.Dialogue, request: str) -> tuple[str, str, str]:
        """Ask the client for what the mechanism wants: the name, the password, and the last line as the journal
        may show it. Raises Refusal."""
        try:
            wanted = next(dialogue)
            while True:
                exchange = self.fake.journal.ask(self.record, "challenge", request, self.fake.phase)
                await self._say(_smtp_auth.challenge(wanted).encode(), exchange)
                answer = (await self._line()).decode("ascii", "replace").strip()
                self.fake.feed(Heard(self.record.id))
                request = "********"
                wanted = dialogue.send(answer)
        except StopIteration as done:
            user, password = done.value
            return user, password, request

    async def _log_in(self, user: str, password: str) -> None:
        users = self.fake.users
        if users is not None and users.get(user) != password:
            await self.push("535 5.7.8 Error: authentication credentials invalid")
            return
        self.session.authenticated = True
        self.user = user
        await self.push("235 2.7.0 Authentication successful")

    # ---- the message ---------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str | None) -> None:
        if await self.check_helo_needed():
            return
        if not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        self.instead, self.drip, self.ending = None, 0.0, False
        self.in_body = True
        try:
            await self._message()
        finally:
            self.in_body = False
            self._reset_transaction()

    async def _message(self) -> None:
        facts = {"recipient": tuple(self.envelope.rcpt_tos), **self._mail_facts()}
        body = Body(LARGEST_MESSAGE)
        if await self._read(body, facts):
            return
        facts["size"] = body.size
        if body.too_large:
            effect = self._too_large
        else:
            self.envelope.content = content = body.content()
            facts |= {"header": LazyHeaders(content), "size": len(content)}
            effect = self._store
        await self._ask("message", f"({body.size} bytes)", effect, **facts)

    async def _read(self, body: Body, facts: dict[str, Any]) -> bool:
        """Read to the final dot. The moment `body` is decided now, and may act when its byte has come.

        True if the message has been answered on the way.
        """
        script = self.fake.feed(Asked(self.record.id, "body", facts), "body")
        if script is None:
            raise _Over
        if script.rule is not None:
            exchange = self.fake.journal.ask(self.record, "body", "", script.phase)
            await self._perform(script, exchange)
            self.fake.journal.tell(exchange)
        self.watch = next((step.bytes for step in script.steps if isinstance(step, Watch)), None)
        answered = False
        while not body.complete:
            chunk = await self._reader.read(CHUNK)
            if not chunk:
                raise asyncio.IncompleteReadError(b"", None)
            if rest := body.feed(chunk):
                unread(self._reader)[:0] = rest
            self.fake.feed(Heard(self.record.id))
            if self.watch is not None and body.size >= self.watch:
                self.watch = None
                answered = await self._reached(body)
        return answered

    async def _reached(self, body: Body) -> bool:
        script = self.fake.feed(Reached(self.record.id), "body")
        if script is None:
            return False
        exchange = self.exchange = self.fake.journal.ask(
            self.record, "body", f"({body.size} bytes so far)", script.phase
        )
        await self._perform(script, exchange)
        return exchange.reply is not None

    async def _too_large(self) -> None:
        await self.push("552 5.3.4 Error: message too large")

    async def _store(self) -> None:
        self.exchange.facts = self.fake.keep(self.record, self.envelope, self.user)
        await self.push("250 2.0.0 Ok: queued")


def _wire(lines: tuple[str, ...]) -> bytes:
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def masked(text: str) -> str:
    """A client's words as the journal may show them: without credentials."""
    return _SECRET.sub(r"\1********", text)


def bare(path: str | None) -> str | None:
    """An address as aiosmtpd has it; the null sender, to it `<>`, is the empty one."""
    return "" if path == "<>" else path


def unread(reader: asyncio.StreamReader) -> bytearray:
    """What has come and was not read yet; it may be put back, or taken away. Private in asyncio, for ten years now."""
    buffer: bytearray = reader._buffer  # type: ignore[attr-defined]
    return buffer
