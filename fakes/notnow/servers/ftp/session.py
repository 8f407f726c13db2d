"""One FTP session: pyftpdlib's commands and state; it asks the engine before every step."""

# ruff: noqa: N802, ARG002 (the names and arguments of pyftpdlib's methods)
from __future__ import annotations

import asyncio
import calendar
import re
import socket
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

from pyftpdlib.exceptions import FilesystemError

from notnow import protocols
from notnow.bounds import FTP_LINE
from notnow.engine.actions import BEHAVE, Ending
from notnow.engine.events import Asked, Ended, Known
from notnow.journal import Exchange, Target, Transfer
from notnow.servers.base.http_lines import is_request_line
from notnow.servers.base.life import STALLED, Client
from notnow.servers.base.turns import Turn
from notnow.servers.ftp.asking import Continuation, HealthyAction
from notnow.servers.ftp.connection import PLAIN_COMMANDS, TLS_COMMANDS, local_address
from notnow.servers.ftp.filesystem import MemoryFS, Permissive
from notnow.servers.ftp.listings import Listings
from notnow.servers.ftp.running_transfer import LISTINGS, TRANSFERS, RunningTransfer, asked_for

ENDED = Client.ENDED
LAST = 2.0  # real seconds that a client has to open a data connection after its FIN on the control connection
URGENT = frozenset({"ABOR", "STAT", "QUIT"})  # RFC 959 §4.1.3: the commands that are allowed during a transfer
ALIASES = {"XCWD": "cwd", "XCUP": "cdup", "XPWD": "pwd", "XMKD": "mkd", "XRMD": "rmd"}  # RFC 1123 §4.1.3.1
_TELNET = re.compile(rb"\xff[\xf0-\xfa]|\xff[\xfb-\xfe].")  # RFC 959 §4.1.3: an interrupt has these before it
_FACTS = {name: moment.facts for name, moment in protocols.get("ftp").moments.items()}
_MOMENTS = {name.upper(): name for name in _FACTS} | ALIASES  # by the verb
_OURS = TRANSFERS | {"PASS", "AUTH", "ABOR", "STAT"}  # the commands that are not pyftpdlib's alone
_SECRET = re.compile(r"(\b(?:PASS|ACCT)\s+)\S.*?(?=\r?$)", re.IGNORECASE | re.MULTILINE)


class FTPSession(Listings):
    """A live FTP control connection of a fake."""

    goodbye = "421 Service not available, closing control connection."
    abstracted_fs, authorizer = MemoryFS, Permissive()
    timeout = 0  # idle time-outs belong to the engine
    _sized: bool = False  # PBSZ has been sent
    _renamed: str | None = None  # the path of an RNFR that was the last command

    # ---- the hooks of a wire ---------------------------------------------------------------------

    def open(self, sock: socket.socket, implicit: bool) -> None:
        """Note the local address while the socket has one: the client may close at any time."""
        try:
            self.socket = self.local = local_address(*sock.getsockname()[:2])
        except OSError:  # it has already left
            sock.close()
            self.host.connection_closed(self.record)
            return
        super().open(sock, implicit)

    def on_open(self, transport: asyncio.Transport) -> None:
        if self.secure:
            self.private = self._sized = True
        if self.host.tls == "none":
            self.proto_cmds = PLAIN_COMMANDS
        else:
            self.proto_cmds, self._extra_feats = TLS_COMMANDS, ["AUTH TLS", "PBSZ", "PROT"]
        opening = self.opening
        del self.opening  # a session may live long
        self._carry_out(opening, self.exchange, self._greet)

    def on_client_end(self) -> None:
        if self.life.fake is STALLED:
            self.end()
        else:
            self.serve()  # the commands that came before the end

    def on_lost(self, error: Exception | None) -> None:
        for task in self._working:
            task.cancel()
        self.end_all_data("fin", by="fake" if self.record.ended_by == "fake" else "client")
        self.close_ports()

    def finish(self, how: Ending, exchange: Exchange) -> None:
        self.end_all_data("reset" if how == "reset" else "fin")
        super().finish(how, exchange)

    def on_upgrade(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    @property
    def is_occupied(self) -> bool:
        return self.busy > 0 or self.transfer is not None or self.queues or self.choked

    # ---- the loop over commands ------------------------------------------------------------------

    def serve(self) -> None:
        turn = None
        while (
            (self._inbox or self.crowded or self._quit_pending or self.life.client is ENDED)
            and not self.queues
            and (line := self._next()) is not None
        ):
            try:
                self._command(_TELNET.sub(b"", line) if b"\xff" in line else line)
            except Exception as error:
                self.break_off(error)
            if self._inbox:
                turn = turn or Turn(self.host.turns)
                if turn.over():
                    self.serve_soon()

    def _next(self) -> bytes | None:
        """The next command, if there is one that may be carried out now."""
        if self._inbox and self._dtp_acceptor is not None:
            self._dtp_acceptor.look()  # a data connection that was made before the next command
        state, transfer = self.life.fake, self.transfer
        if self.busy or not state.speaks or state is STALLED or self.transport.is_closing():
            return None
        if self._quit_pending and transfer is None:
            self.end()
            return None
        if transfer is not None and self.eof and self.data_channel is None:
            self.host.loop.call_later(LAST, self._give_up, transfer)
        if self.choked or self._quit_pending or (transfer is not None and not self._is_urgent()):
            return None
        line = self.line() if self._inbox or self.crowded else None
        if line is None and self.eof:
            self.end()
        return line

    def _give_up(self, transfer: RunningTransfer) -> None:
        """End, if a client has closed its sending side and opened no data connection."""
        if self.transfer is transfer and self.data_channel is None:
            self.end()

    def _is_urgent(self) -> bool:
        """True if the next command is allowed during a transfer."""
        line, end, _ = _TELNET.sub(b"", bytes(self._inbox[:FTP_LINE])).partition(b"\n")
        return bool(end) and line[:4].upper().decode("latin-1") in URGENT

    def _command(self, line: bytes) -> None:
        text, verb, argument, request, called, is_one = _parts(line)
        if not is_one:
            self._ask("unknown", request, partial(self._not_understood, text), {"command": verb})
            return
        moment = called if verb in self.proto_cmds else "unknown"
        if moment != "unknown":
            self.nonsense = 0
        facts = self._facts(moment, verb, argument)
        known: Transfer | Target | None = None
        if (argument and "path" in facts) or self._renamed is not None:
            known = self._target(moment, facts.get("path") if argument else None)
        if verb in TRANSFERS:
            self.host.recorder.also("transfer")
            known = None
            if self.authenticated and is_complete(verb, argument):
                known = asked_for(verb, facts["path"], facts["mode"], self._restart_position)
                self._restart_position = 0  # REST applies to this transfer only, even if it is refused (RFC 959 §4.1.3)
        self._ask(moment, request, self._healthy(moment, verb, text, argument), facts, known)

    def _not_understood(self, line: str) -> None:
        if not self._hangs_up(line):
            self.respond("500 Command not understood.")

    def _unknown(self, line: str, verb: str, argument: str) -> None:
        if not self._hangs_up(line):
            self.pre_process_command(line, verb, argument)

    def _hangs_up(self, line: str) -> bool:
        """Count a command that was not understood. True if it was one too many, or HTTP, and the session ends."""
        flood = self.floods()
        if self.answers is not None:  # a rule that answers decides about the end, too
            return False
        if is_request_line(line):
            reply = "500 HTTP protocol commands not allowed."  # vsftpd postlogin.c
        elif flood:
            reply = "421 Too many commands that are none, closing control connection."
        else:
            return False
        self.host.recorder.end(self.exchange)
        self.respond(reply)
        self.finish("fin", self.exchange)
        return True

    def _healthy(self, moment: str, verb: str, line: str, argument: str) -> HealthyAction:
        if moment == "unknown":
            return lambda: self._unknown(line, verb, argument)
        if verb not in _OURS:
            return partial(self.pre_process_command, line, verb, argument)
        if verb == "PASS":
            return lambda: self._log_in(argument)
        if verb == "AUTH" and verb in self.proto_cmds and argument:
            return lambda: self._auth(argument)
        if verb == "ABOR" and self.transfer is not None and not argument:
            return self.abort_transfer
        if verb == "STAT" and self.authenticated and self.is_pattern(argument):
            return lambda: self.list_on_control(argument)
        if verb in TRANSFERS and self.authenticated and is_complete(verb, argument):
            return lambda: self.begin_transfer(verb, line, argument)
        if verb in TRANSFERS:
            return lambda: self._refuse_transfer(moment, verb, line, argument)
        return partial(self.pre_process_command, line, verb, argument)

    def _refuse_transfer(self, moment: str, verb: str, line: str, argument: str) -> None:
        """Refuse a transfer without a login or a file name; the engine counted it as begun."""
        self.watch = None
        self.host.feed(Ended(self.record.id, moment))
        self.pre_process_command(line, verb, argument)

    def _facts(self, moment: str, verb: str, argument: str) -> dict[str, Any]:
        """The facts of a command; see the moments of `notnow.protocols`."""
        facts: dict[str, Any] = {"command": verb}
        if moment in ("user", "pass"):
            facts["user"] = argument if moment == "user" else self.username or None
        elif known := _FACTS.get(moment):
            if "path" in known and self.fs is not None:
                facts["path"] = self.fs.ftpnorm(_path(moment, argument))
            if "mode" in known:
                facts["mode"] = self.mode
        return facts

    def _target(self, moment: str, path: str | None) -> Target | None:
        """The file or directory of a command, for the journal."""
        source, self._renamed = self._renamed, path if moment == "rnfr" else None
        return None if path is None else Target(path, source if moment == "rnto" else None)

    # ---- commands --------------------------------------------------------------------------------

    def _greet(self) -> None:
        self.respond(f"220 {self.host.hostname} FTP server (notnow) ready.")

    def ftp_REIN(self, line: str) -> None:
        """pyftpdlib replies 230; RFC 959 §5.4 has 220."""
        self.flush_account()
        self.respond("220 Service ready for new user.")

    def ftp_QUIT(self, line: str) -> None:
        self.leave()
        if self.transfer is None or self.data_channel is None:  # no transfer is under way that could complete
            self.end_all_data("fin", by="client")
        super().ftp_QUIT(line)

    def ftp_CWD(self, path: str) -> None:
        """pyftpdlib's CWD looks at the directory of this process."""
        try:
            self.fs.chdir(path)
        except FilesystemError as error:
            self.respond(f"550 {error}.")
        else:
            self.respond(f'250 "{path}" is the current directory.')

    def ftp_MFMT(self, path: str, timeval: str) -> None:
        """pyftpdlib's MFMT calls a deprecated function, whose warning is an error in many test suites."""
        try:
            modified = calendar.timegm(time.strptime(timeval, "%Y%m%d%H%M%S")) if len(timeval) == 14 else None
        except ValueError:
            modified = None
        if modified is None:
            self.respond("550 Invalid time format; expected: YYYYMMDDHHMMSS.")
            return
        try:
            self.fs.utime(path, modified)
        except FilesystemError:
            self.respond(f"550 {path} is not retrievable")
        else:
            self.respond(f"213 Modify={timeval}; {path}.")

    def ftp_TYPE(self, line: str) -> None:
        """pyftpdlib's TYPE lacks ASCII Non-print, which RFC 959 §5.1 demands of every server."""
        super().ftp_TYPE("A" if line.upper() == "A N" else line)

    def ftp_PASV(self, line: str) -> None:
        if self.local.family == socket.AF_INET6:  # its reply has no room for an IPv6 address
            self.respond("425 You cannot use PASV on IPv6 connections. Use EPSV instead.")
        else:
            super().ftp_PASV(line)

    def _log_in(self, password: str) -> Continuation | None:
        """PASS: ask the engine again, at `login`, if the password is good."""
        if self.authenticated or not self.username:
            self.respond("503 Already logged in." if self.authenticated else "503 Login with USER first.")
            return None
        if not self.host.admits(self.username, password):
            self.username = ""
            self.respond("530 Login incorrect.")
            return None
        exchange, facts = self.exchange, {"user": self.username}
        self.host.recorder.also("login")
        if self.host.behaves(self.record.id, "login", facts, self.host.clock.now()):
            self._welcome()
            return None
        script = self.host.feed(Asked(self.record.id, "login", facts), "login")
        if script is None:
            return None
        if script.steps is not BEHAVE:
            return partial(self._perform, script, exchange, self._welcome)
        self._welcome()
        return None

    def _welcome(self) -> None:
        self.host.feed(Known(self.record.id, {"user": self.username}))
        self.handle_auth_success("/", "", "Login successful.")

    def flush_account(self) -> None:
        super().flush_account()
        self.host.feed(Known(self.record.id, {"user": None}))

    # ---- TLS (RFC 4217) --------------------------------------------------------------------------

    def _auth(self, argument: str) -> Continuation | None:
        if self.secure:
            self.respond("503 Already using TLS.")
        elif argument.upper() not in ("TLS", "TLS-C", "SSL", "TLS-P"):
            self.respond("504 Unknown security mechanism: use AUTH TLS.")
        else:
            self.transport.pause_reading()  # the bytes behind the reply belong to TLS
            self.respond(f"234 AUTH {argument.upper()} successful.")
            return self._upgrade
        return None

    async def _upgrade(self) -> Sequence[bytes]:
        await self.upgrade()
        if self.authenticated:
            self.flush_account()
        return ()

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


@lru_cache(maxsize=64)  # clients say the same few things
def _parts(line: bytes) -> tuple[str, str, str, str, str, bool]:
    """A line as text, its verb in upper case, its argument, the request for the journal, the moment of the command, and
    whether the line can be one.
    """
    text = line.decode("utf-8", "replace")
    verb, _, argument = text.partition(" ")
    verb = verb.upper()
    if argument[:1] == "-" and verb in ("LIST", "NLST"):
        argument = _without_options(argument)
    can_be_one = len(line) <= FTP_LINE and "\0" not in text and verb.isprintable()
    return text, verb, argument, masked(text), _MOMENTS.get(verb, "unknown"), can_be_one


def is_complete(verb: str, argument: str) -> bool:
    """False for a transfer command without the file name that it needs (RFC 959 §5.3.1), which gets a 501."""
    return bool(argument) or verb in LISTINGS or verb == "STOU"


def masked(text: str) -> str:
    """Text from a client without its passwords, for the journal."""
    said = text.upper()
    return _SECRET.sub(r"\1********", text) if "PASS" in said or "ACCT" in said else text


def _without_options(argument: str) -> str:
    """The path in the argument of LIST. Many clients put options of `ls` before it."""
    return re.sub(r"^(?:-\w+(?: +|$))+", "", argument)


def _path(moment: str, argument: str) -> str:
    """The path in the argument of a command."""
    if moment == "cdup":
        return ".."
    return argument.partition(" ")[2] if moment == "mfmt" else argument
