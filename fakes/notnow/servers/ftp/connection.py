"""pyftpdlib's handler as a `LiveConnection`: its commands and their state, without its sockets.

The private seams of pyftpdlib that notnow uses are here and in the parts of a session on top: `FTPHandler.__init__`
(called once, with a stub of a socket, for the state in which sessions begin), `pre_process_command`,
`_on_dtp_connection`, `_on_dtp_close`, `_make_epasv`, `_shutdown_connecting_dtp`, `_dtp_acceptor`, `_dtp_connector`,
`_out_dtp_queue`, `_in_dtp_queue`, `_restart_position`, `_quit_pending`, `_extra_feats`, `flush_account`,
`handle_auth_success`, its calls to data connections, and that it writes only through `push`, `push_with_producer` and
`respond`. tests/test_ftp_seams.py has a test for each.
"""

from __future__ import annotations

import socket
import sys
from functools import lru_cache
from typing import Any, Self

from notnow.bounds import FTP_LINE, FTP_WAITING
from notnow.engine.actions import Script
from notnow.journal import Connection, Exchange
from notnow.servers.base.arrivals import Arrivals
from notnow.servers.base.dialogue import CommandConnection
from notnow.servers.base.life import Life
from notnow.servers.base.listener import unmapped
from notnow.servers.ftp.handler import BegunHandler
from notnow.servers.ftp.host import FileHost

PLAIN_COMMANDS: dict[str, dict[str, Any]] = BegunHandler.proto_cmds
TLS_COMMANDS = PLAIN_COMMANDS | {  # RFC 4217; pyftpdlib has them in a handler that needs PyOpenSSL
    "AUTH": {"perm": None, "auth": False, "arg": True, "help": "Syntax: AUTH <SP> TLS (set up secure control channel)."},
    "PBSZ": {"perm": None, "auth": False, "arg": True, "help": "Syntax: PBSZ <SP> 0 (negotiate TLS buffer)."},
    "PROT": {"perm": None, "auth": False, "arg": True, "help": "Syntax: PROT <SP> [C|P] (set up un/secure data channel)."},
}  # fmt: skip
# What pyftpdlib checks before a command that is about no file: a login, and an argument (None: there may be one).
SIMPLE = {
    name: (entry["auth"], entry["arg"])
    for name, entry in TLS_COMMANDS.items()
    if entry["perm"] is None and name not in ("SITE", "STAT")
}
METHODS = {name: sys.intern(f"ftp_{name.replace(' ', '_')}") for name in TLS_COMMANDS}


class FTPConnection(CommandConnection, BegunHandler):
    """The control connection of a session."""

    # What every session has. CPython 3.11 keeps 30 attributes of an object beside it; with one more it makes a dict for all
    # of them, and no attribute or method is then found the short way. With pyftpdlib's state a session has more than 30.
    __slots__ = (
        "_inbox", "arrivals", "exchange", "host", "life", "local", "opening", "raw", "record", "remote_ip", "remote_port",
        "socket", "transport",
    )  # fmt: skip

    # pyftpdlib's attributes.
    socket: LocalAddress  # pyftpdlib asks it for its address
    username: str
    _out_dtp_queue: tuple[Any, ...] | None
    _in_dtp_queue: tuple[Any, ...] | None
    # Ours.
    host: FileHost
    local: LocalAddress  # the address of the control connection, and of the data connections
    queues: bool = False  # commands are left, and it waits for its turn
    choked: bool = False  # the client does not read its replies
    crowded: bool = False  # so much input is waiting that we have stopped reading
    _inbox: bytearray
    _long: bool = False  # the input is the rest of a line that was too long

    @classmethod
    def adopt(cls, host: FileHost, record: Connection, greeting: Exchange, script: Script) -> Self:
        """A new session for a connection."""
        new = cls.__new__(cls)
        new.life = Life()
        new.host, new.record, new.exchange, new.opening = host, record, greeting, script
        new.remote_ip, new.remote_port = record.client, record.peer_port
        new._inbox, new.arrivals = bytearray(), Arrivals(host.recorder)
        return new

    # ---- the hooks of a wire ---------------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        self.arrivals.came(data, self.is_occupied)
        self._inbox += data
        self.serve()
        if len(self._inbox) > FTP_WAITING and not self.crowded and self.alive:
            self.crowded = True
            self.transport.pause_reading()

    def take_unread(self) -> bytes:
        taken = bytes(self._inbox)
        self._inbox.clear()
        self.crowded = False  # the caller resumes reading
        return taken

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False
        self.serve()

    @property
    def is_occupied(self) -> bool:
        """A reply is due."""
        raise NotImplementedError

    def serve(self) -> None:
        """Carry out the commands that have arrived, until one has to wait."""
        raise NotImplementedError

    def serve_soon(self) -> None:
        """Continue at our next turn."""
        if not self.queues:
            self.queues = True
            self.host.turns.later(self._serve_now)

    def _serve_now(self) -> None:
        self.queues = False
        self.serve()

    # ---- reading ---------------------------------------------------------------------------------

    def line(self) -> bytes | None:
        """Take the next command, without its line end; of a line that is too long, only its beginning."""
        inbox = self._inbox
        while (end := inbox.find(b"\n")) >= 0:
            line = bytes(inbox[:end])
            del inbox[: end + 1]
            if not self._long:
                return line.removesuffix(b"\r")
            self._long = False
        if self._long:
            self._inbox.clear()
        elif len(self._inbox) > FTP_LINE:
            self._long = True
            return self.take_unread()
        if self.crowded:
            self.crowded = False
            self.transport.resume_reading()
        return None

    # ---- what pyftpdlib would do with its sockets ------------------------------------------------

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        """Check a command, and carry it out. pyftpdlib's takes six times as long, for the sake of paths and permissions."""
        needs = SIMPLE.get(cmd)
        if (
            needs is not None
            and cmd in self.proto_cmds
            and (self.authenticated or not needs[0])
            and (needs[1] is None or needs[1] is bool(arg))
        ):
            getattr(self, METHODS[cmd])(arg)
        else:
            super().pre_process_command(line, cmd, arg)

    def process_command(self, cmd: str, *arguments: str, **more: str) -> None:
        """Carry out a command. pyftpdlib builds the name of its method anew each time, which no cache of Python's knows."""
        getattr(self, METHODS[cmd])(*arguments, **more)

    def close_when_done(self) -> None:
        """QUIT: end once all replies are sent."""
        self._quit_pending = True

    def close(self) -> None:
        self.end()

    def add_channel(self, *_: Any) -> None:
        """asyncio has the connection already."""

    def del_channel(self, *_: Any) -> None:
        """asyncio closes the connection."""

    def log(self, *_: Any, **__: Any) -> None:
        """The journal has it."""

    logline = log_cmd = log


class LocalAddress:
    """The local address of a control connection, which is kept after the client has closed it.

    For an IPv4 client of a socket for both families it is an IPv4 address.
    """

    def __init__(self, address: str, port: int) -> None:
        self.address, self._port = unmapped(address), port
        self.family = socket.AF_INET6 if ":" in self.address else socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return self.address, self._port


@lru_cache(maxsize=64)
def local_address(address: str, port: int) -> LocalAddress:
    """The local address of a connection, which many connections share."""
    return LocalAddress(address, port)
