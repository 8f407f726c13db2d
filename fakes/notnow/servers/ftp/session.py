"""One FTP session: pyftpdlib's commands and state, with the engine asked before every step."""

# ruff: noqa: N802, ARG002 (the names and arguments of pyftpdlib's methods)
from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from notnow.actions import Script
from notnow.engine import BEHAVE
from notnow.events import Answered, Asked, Known
from notnow.journal import Exchange
from notnow.moments import MOMENTS
from notnow.servers._dialogue import Manner, wire
from notnow.servers._plain import Plain
from notnow.servers._wire import Over
from notnow.servers.ftp.filesystem import MemoryFS, Permissive
from notnow.servers.ftp.transfer import TRANSFERS, Transfer, Transfers
from notnow.servers.ftp.wire import LONGEST_COMMAND, PLAIN_COMMANDS, TLS_COMMANDS, TURN

URGENT = frozenset({"ABOR", "STAT", "QUIT"})  # RFC 959 §4.1.3: what may be asked during a transfer
ALIASES = {"XCWD": "cwd", "XCUP": "cdup", "XPWD": "pwd", "XMKD": "mkd", "XRMD": "rmd"}  # RFC 1123 §4.1.3.1
_TELNET = re.compile(rb"\xff[\xf0-\xfa]|\xff[\xfb-\xfe].")  # RFC 959 §4.1.3: an interrupt comes with these before it
_MOMENTS = {name: moment.facts for name, moment in MOMENTS["ftp"].items()}
_WITHOUT_SECRETS = frozenset({"USER", "PASV", "EPSV", "TYPE", "CWD", "QUIT", *TRANSFERS})  # which need no masking
_SECRET = re.compile(r"(\b(?:PASS|ACCT)\s+)\S.*", re.IGNORECASE)

# What it means to behave. Its replies go through `respond`. What is left of it, if that takes time, comes back,
# and in the end gives the replies that are still to be said.
Rest = Coroutine[Any, Any, Sequence[bytes]]
Deed = Callable[[], Rest | None]


class Session(Transfers):
    """A live FTP control connection of a fake."""

    goodbye = "421 Service not available, closing control connection."
    abstracted_fs, authorizer = MemoryFS, Permissive()
    timeout = 0  # silence is the engine's business
    _sized: bool = False  # PBSZ has been said
    _lines: str = ""  # the first lines of a reply whose last is still to come
    _working: tuple[asyncio.Task[None], ...] = ()
    _quits: bool = False  # the connection is to be closed when all has been said

    # ---- the hooks of a wire ---------------------------------------------------------------------

    def begun(self, transport: asyncio.Transport) -> None:
        self.socket = self.raw
        self.address = self.raw.getsockname()[0]
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # an urgent ABOR is not to be torn apart
        self.private = self._sized = self.implicit
        if self.fake.tls == "none":
            self.proto_cmds = PLAIN_COMMANDS
        else:
            self.proto_cmds, self._extra_feats = TLS_COMMANDS, ["AUTH TLS", "PBSZ", "PROT"]
        self._carry_out(self.opening, self.exchange, self._greet)
        self.say_early()

    def ended(self) -> None:
        if self.hanging or not (self.busy or self.transfer or self._inbox):
            self.end()

    def lost(self, error: Exception | None) -> None:
        for task in self._working:
            task.cancel()
        self.end_all_data("fin")
        self.close_ports()

    def finish(self, how: str, exchange: Exchange) -> None:
        self.end_all_data("reset" if how == "reset" else "fin")
        super().finish(how, exchange)

    def upgraded(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    # ---- the loop over commands ------------------------------------------------------------------

    def serve(self) -> None:
        for _ in range(TURN):
            if self.busy or self.choked or self.over or self.hanging or not self.alive:
                return
            if self.transfer is not None and not self._is_urgent():
                return
            line = self.line() if self._inbox else None
            if line is None:
                if self.eof:
                    self.end()
                return
            self._command(_TELNET.sub(b"", line) if b"\xff" in line else line)
        self.fake.loop.call_soon(self.serve)

    def _is_urgent(self) -> bool:
        """True if the next command is one that may be asked during a transfer."""
        line, end, _ = _TELNET.sub(b"", bytes(self._inbox[:LONGEST_COMMAND])).partition(b"\n")
        return bool(end) and line[:4].upper().decode("latin-1") in URGENT

    def _command(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace")
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        request = text if verb in _WITHOUT_SECRETS else masked(text)
        if len(line) > LONGEST_COMMAND or "\0" in text:
            self._ask("unknown", request, lambda: self.respond("500 Command not understood."), command=verb)
            return
        moment = ALIASES.get(verb) or verb.lower()
        if moment not in _MOMENTS or verb not in self.proto_cmds:
            moment = "unknown"
        facts = self._facts(moment, verb, argument)
        known = None
        if verb in TRANSFERS and self.authenticated:
            known = Transfer.facts_of(verb, facts["path"], facts["mode"], self._restart_position)
            self.fake.journal.also("transfer")
        self._ask(moment, request, self._deed(verb, text, argument), known, **facts)

    def _deed(self, verb: str, line: str, argument: str) -> Deed:
        if verb == "PASS":
            return lambda: self._log_in(argument)
        if verb == "AUTH" and verb in self.proto_cmds:
            return lambda: self._auth(argument)
        if verb in TRANSFERS and self.authenticated:
            return lambda: self.begin_transfer(verb, line, argument)
        return lambda: self.pre_process_command(line, verb, argument)

    def _facts(self, moment: str, verb: str, argument: str) -> dict[str, Any]:
        """What is known at a command; see `notnow.moments`."""
        facts: dict[str, Any] = {"command": verb}
        if moment in ("user", "pass"):
            facts["user"] = argument if moment == "user" else self.username or None
        elif known := _MOMENTS.get(moment):
            if "path" in known and self.fs is not None:
                where = ".." if moment == "cdup" else argument
                facts["path"] = self.fs.ftpnorm(_without_options(where) if where[:1] == "-" else where)
            if "mode" in known:
                facts["mode"] = self.mode
        return facts

    # ---- asking the engine, and doing what it says -----------------------------------------------

    def _ask(self, moment: str, request: str, deed: Deed, known: dict[str, Any] | None = None, **facts: Any) -> None:
        """Ask about a command and carry out the answer; `deed` is to behave, `known` what the journal is told of it."""
        exchange = self.exchange = self.fake.journal.ask(self.record, moment, request, self.fake.phase)
        exchange.facts = known
        script = self.fake.feed(Asked(self.record.id, moment, facts), moment)
        if script is not None:  # None: closed, by what time brought with it
            self._carry_out(script, exchange, deed)

    def _carry_out(self, script: Script, exchange: Exchange, deed: Deed) -> None:
        if script.steps is not BEHAVE:
            self._take_time(self._perform(script, exchange, deed))
            return
        exchange.phase = script.phase
        if (rest := deed()) is not None:
            self._take_time(self._as_usual(rest, exchange))

    async def _as_usual(self, rest: Rest, exchange: Exchange) -> None:
        for text in await rest:
            await self.say(text, exchange)

    async def _perform(self, script: Script, exchange: Exchange, deed: Deed) -> Sequence[bytes]:
        """Carry out a script in which a rule has a say; healthy replies are gathered, and said in its manner."""

        async def behave(manner: Manner) -> None:
            answers, rest = self.gather(deed)
            for text in answers:
                manner = await self._answer(text, exchange, manner)
            for text in () if rest is None else await rest:
                manner = await self._answer(text, exchange, manner)

        await self.perform(script, exchange, behave)
        return ()

    def _take_time(self, work: Coroutine[Any, Any, object]) -> None:
        """Do something that waits; the next command is looked at when it is done."""
        self.busy = True
        self._working = (*self._working, self.fake.spawn(self._work(work)))

    async def _work(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Over:
            pass
        except Exception as error:
            if not self.is_lost(error):
                self.fake.failed(error)
                self.abort()
        self.busy = False
        self._working = tuple(task for task in self._working if task is not asyncio.current_task())
        if self._quits and not self._working:
            self.end()
        self.serve()

    # ---- replies ---------------------------------------------------------------------------------

    def push(self, data: str) -> None:
        self._lines += data

    def push_with_producer(self, producer: Any) -> None:
        self._lines += b"".join(iter(producer.more, b"")).decode("utf-8", "replace")

    def respond(self, resp: str, logfun: object = None) -> None:
        """Every healthy reply comes through here; a rule may have put another in its place."""
        text, self._lines = (self._lines + resp).encode("utf-8", "replace"), ""
        if self.answers is not None and text[0] != ord("1"):  # what comes before a transfer is never replaced
            self.answers.append(text)
        else:
            self.say_at_once(text, self.exchange)

    def respond_w_warning(self, resp: str) -> None:
        self.respond(resp)

    def say_at_once(self, text: bytes, exchange: Exchange) -> None:
        """Say a reply that no rule has changed."""
        if self.over or not self.alive:
            return
        if self._mouth is not None and self._mouth.locked():  # another one still drips
            self._take_time(self.say(text, exchange))
            return
        self.fake.journal.answer(exchange, text.decode("utf-8", "replace").replace("\r\n", "\n"))
        self.transport.write(text + b"\r\n")
        if text[0] in b"45":
            script = self.fake.feed(Answered(self.record.id, int(text[:3]), self.verb(exchange)), "error")
            if script is not None:
                self._take_time(self.perform(script, self.fake.journal.ask(self.record, "error", "", script.phase)))

    async def _answer(self, text: bytes, exchange: Exchange, manner: Manner) -> Manner:
        """Say a healthy reply in the manner of a rule. What replaces one stands for all that follow, too."""
        if manner.instead == ():
            return manner
        text = text if manner.instead is None else wire(manner.instead)
        await self.say(text, exchange, manner.drip, manner.ending)
        return manner if manner.instead is None else Manner((), manner.drip, manner.ending)

    async def say(self, text: bytes, exchange: Exchange, drip: float = 0.0, ending: bool = False) -> None:
        await super().say(self.with_port(text), exchange, drip, ending)

    # ---- commands --------------------------------------------------------------------------------

    def _greet(self) -> None:
        self.respond(f"220 {self.fake.hostname} FTP server (notnow) ready.")

    def ftp_QUIT(self, line: str) -> None:
        self.leave()
        if self.transfer is None:
            self.end_all_data("fin")
        super().ftp_QUIT(line)

    def close_when_done(self) -> None:
        if self._working:
            self._quits = True
        else:
            self.end()

    def _log_in(self, password: str) -> Rest | None:
        """PASS: the engine is asked again, at `login`, if the password is good."""
        if self.authenticated or not self.username:
            self.respond("503 Already logged in." if self.authenticated else "503 Login with USER first.")
            return None
        if not self.fake.admits(self.username, password):
            self.username = ""
            self.respond("530 Login incorrect.")
            return None
        exchange = self.exchange
        self.fake.journal.also("login")
        script = self.fake.feed(Asked(self.record.id, "login", {"user": self.username}), "login")
        if script is None:
            return None
        if script.steps is not BEHAVE:
            return self._perform(script, exchange, self._welcome)
        self._welcome()
        return None

    def _welcome(self) -> None:
        self.fake.feed(Known(self.record.id, {"user": self.username}))
        self.handle_auth_success("/", "", "Login successful.")

    def flush_account(self) -> None:
        super().flush_account()
        self.fake.feed(Known(self.record.id, {"user": None}))

    # ---- TLS (RFC 4217) --------------------------------------------------------------------------

    def _auth(self, argument: str) -> Rest | None:
        if self.secure:
            self.respond("503 Already using TLS.")
        elif argument.upper() not in ("TLS", "TLS-C", "SSL", "TLS-P"):
            self.respond("504 Unknown security mechanism: use AUTH TLS.")
        else:
            self.respond(f"234 AUTH {argument.upper()} successful.")
            return self._upgrade()
        return None

    async def _upgrade(self) -> Sequence[bytes]:
        plain = self.transport
        assert isinstance(plain, Plain)
        self._inbox.clear()  # what was said before the handshake is nobody's
        self.handshaking = True
        try:
            await self.secured(plain.take())
        except OSError as error:
            self._upgrade_failed(error)
            raise Over from None
        if self.authenticated:
            self.flush_account()
        return ()

    def _upgrade_failed(self, error: OSError) -> None:
        """asyncio has closed the connection, and tells nobody that it is lost."""
        self._tls_failed(error)
        self.over = True
        if self.alive:
            self.connection_lost(None)

    def ftp_PBSZ(self, line: str) -> None:
        self._sized = self.secure
        self.respond("200 PBSZ=0 successful." if self.secure else "503 PBSZ needs a secure control connection.")

    def ftp_PROT(self, line: str) -> None:
        level = line.upper()
        if not self._sized:
            self.respond("503 PBSZ has to come before PROT.")
        elif level in ("C", "P"):
            self.private = level == "P"
            self.respond(f"200 Protection set to {'Private' if self.private else 'Clear'}.")
        else:
            self.respond("536 Unsupported protection level: use C or P.")


def masked(text: str) -> str:
    """A client's words as the journal may show them: without passwords."""
    return _SECRET.sub(r"\1********", text)


def _without_options(argument: str) -> str:
    """The path in the argument of LIST, which many clients begin with options of `ls`."""
    return re.sub(r"^-\w+\s*", "", argument)
