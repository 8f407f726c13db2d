"""FTP clients for tests: `Raw` says what it is told to on the control connection and opens `Data` connections, and
`CarefulTransfer` does what RFC 959 and RFC 1123 §4.1 ask.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import toml_rules
from notnow import FakeFTP
from raw_connection import PATIENCE, RawConnection, Refused, trusting
from toml_rules import one, then

__all__ = [
    "BIG",
    "MODES",
    "CarefulTransfer",
    "Data",
    "Job",
    "Raw",
    "fds",
    "host_of",
    "one",
    "port_of",
    "rules",
    "then",
    "trusting",
]

MODES = ("PASV", "EPSV", "PORT", "EPRT")
BIG = 3_000_000  # bytes of big.bin
rules = partial(toml_rules.rules, protocol="ftp")


class Data:
    """A data connection, or the port at which it is to come: it is made when it is first used."""

    def __init__(self, sock: socket.socket, listens: bool, tls: ssl.SSLContext | None) -> None:
        self._sock, self._listens, self._tls = sock, listens, tls
        self.gone: ConnectionResetError | None = None  # it was reset as soon as it was made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sock(self) -> socket.socket:
        if self.gone is not None:
            raise self.gone
        if self._listens:
            listener, self._listens = self._sock, False
            patience = listener.gettimeout()
            try:
                self._sock = listener.accept()[0]
            finally:
                listener.close()
            self._sock.settimeout(patience)
        if self._tls is not None:
            context, self._tls = self._tls, None
            self._sock = context.wrap_socket(self._sock, server_hostname="localhost", suppress_ragged_eofs=False)
        return self._sock

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def exactly(self, size: int) -> bytes:
        """The next so many bytes. Raises EOFError where they end before."""
        got = bytearray()
        while len(got) < size:
            piece = self.sock.recv(size - len(got))
            if not piece:
                raise EOFError(bytes(got))
            got += piece
        return bytes(got)

    def rest(self, into: bytearray | None = None) -> bytes:
        """Everything until the end, `into` this if it is to be kept when OSError is raised: where a reset comes, or in
        TLS an end without a goodbye.
        """
        got = bytearray() if into is None else into
        while piece := self.sock.recv(1 << 20):
            got += piece
        return bytes(got)

    def end(self) -> None:
        """All has been sent: in TLS with the goodbye that says so (RFC 8446 §6.1)."""
        sock = self.sock
        if isinstance(sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):  # the other side may have gone without one
                self._sock = sock = sock.unwrap()
        self.close()

    def close(self) -> None:
        self._sock.close()

    def reset(self) -> None:
        """Leave with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


class Raw(RawConnection):
    """A control connection that says what it is told to and reads replies, or what comes instead.

    `private` is the TLS context of its data connections; None where they are in the clear. `held` are closed with it.
    """

    fake: FakeFTP
    private: ssl.SSLContext | None = None

    def __init__(self, fake: FakeFTP, **given: object) -> None:
        self.fake, self.held = fake, list[Data]()
        super().__init__(fake, **given)  # type: ignore[arg-type]

    def close(self) -> None:
        for data in self.held:
            data.close()
        super().close()

    # ---- saying and reading --------------------------------------------------------------------

    def code(self, line: str = "") -> str:
        """The code of the next reply, to a line or to what was said before."""
        return (self.say(line) if line else self.reply())[:3]

    def hello(self, user: str = "anonymous", password: str = "guest@") -> Self:
        """Read the greeting and log in, for binary transfers."""
        assert self.code() == "220"
        return self.login(user, password)

    def login(self, user: str = "anonymous", password: str = "guest@") -> Self:
        assert self.code(f"USER {user}") == "331"
        assert self.code(f"PASS {password}") == "230"
        assert self.code("TYPE I") == "200"
        return self

    def auth(self, context: ssl.SSLContext, name: str | None = "localhost") -> Self:
        """AUTH TLS, and the handshake (RFC 4217)."""
        assert self.code("AUTH TLS") == "234"
        self.wrap(context, name)
        return self

    def protect(self, context: ssl.SSLContext) -> Self:
        """PBSZ and PROT P: data connections are in TLS from now on."""
        assert self.code("PBSZ 0") == "200"
        assert self.code("PROT P") == "200"
        self.private = context
        return self

    # ---- data connections ----------------------------------------------------------------------

    def data(self, mode: str = "PASV") -> Data:
        """A data connection, or the port for it."""
        return self.passive(mode) if mode in ("PASV", "EPSV") else self.active(mode)

    def hold(self, mode: str = "PASV") -> Data:
        """A data connection that is closed with this one."""
        self.held.append(self.data(mode))
        return self.held[-1]

    def passive(self, mode: str = "PASV") -> Data:
        return self.visit(port_of(self.say(mode)))

    def visit(self, port: int, source: str | None = None) -> Data:
        """Connect to a port of the fake, from an address of this machine."""
        sock = socket.socket(self.sock.family)
        sock.settimeout(self.patience)
        data = Data(sock, False, self.private)
        try:
            if source is not None:
                sock.bind((source, 0))
            sock.connect((self.fake.host, port))
        except ConnectionResetError as error:
            data.gone = error
        except BaseException:
            sock.close()
            raise
        return data

    def active(self, mode: str = "PORT") -> Data:
        data = self.listen()
        try:
            assert self.code(self.where(data, mode)) == "200"
        except BaseException:
            data.close()
            raise
        return data

    def listen(self) -> Data:
        sock = socket.create_server((self.sock.getsockname()[0], 0), family=self.sock.family)
        sock.settimeout(self.patience)
        return Data(sock, True, self.private)

    def where(self, data: Data, mode: str = "PORT") -> str:
        """The command that says where a port of ours is."""
        host, port = data._sock.getsockname()[:2]
        if mode == "PORT":
            return f"PORT {host.replace('.', ',')},{port // 256},{port % 256}"
        return f"EPRT |{2 if ':' in host else 1}|{host}|{port}|"

    # ---- transfers -----------------------------------------------------------------------------

    def get(self, line: str, mode: str = "PASV") -> bytes:
        """A whole download, or listing."""
        with self.data(mode) as data:
            assert self.say(line)[0] == "1"
            content = data.rest()
            if isinstance(data.sock, ssl.SSLSocket):
                data.end()
        reply = self.reply()
        assert reply.startswith("226"), reply
        return content

    def put(self, line: str, content: bytes, mode: str = "PASV") -> str:
        """A whole upload; the reply to it."""
        with self.data(mode) as data:
            self.send(line + "\r\n")
            reply = self.reply()
            if reply[0] == "1":
                data.send(content)
                data.end()
                reply = self.reply()
            return reply


def port_of(reply: str) -> int:
    """The port in a reply to PASV or EPSV."""
    if match := re.fullmatch(r"229 .*\(\|\|\|(\d+)\|\).*", reply):
        return int(match[1])
    match = re.fullmatch(r"227 .*\((?:\d+,){4}(\d+),(\d+)\).*", reply)
    assert match, reply
    return int(match[1]) * 256 + int(match[2])


def host_of(reply: str) -> str:
    """The address in a reply to PASV."""
    match = re.search(r"\((\d+),(\d+),(\d+),(\d+),", reply)
    assert match, reply
    return ".".join(match.groups())


def fds() -> int:
    """How many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))


@dataclass
class Job:
    """A file to get or to put. `content` is what has come, or what is to be sent."""

    verb: str
    name: str
    content: bytes | bytearray = b""
    tried: bool = False
    failed: int = 0  # the 5yz that has settled it

    @property
    def is_upload(self) -> bool:
        return self.verb in ("STOR", "APPE", "STOU")


class CarefulTransfer:
    """A small client that tries again from the start (RFC 959 §4.2.1) until every file is through, and none twice.

    `wait(seconds)` is how it waits between tries. A 4yz, a lost connection and a broken handshake are to be tried
    again; so is a login, whatever refuses it, and a 5yz is final for its transfer. After a 421 it says nothing more on
    that connection. What is there already is not sent again: it asks how much that is (SIZE), and goes on from there
    (REST). `ways` to a data connection are taken in turn, the next one where one has failed. With `tls` nothing is
    said in clear text. `dawdle` is what it does once, after its first login or (`dawdle_at`) amid its first upload, and
    `chatty` has it say more than it must.
    """

    def __init__(
        self, fake: FakeFTP, wait: Callable[[float], object], *, tls: ssl.SSLContext | None = None,
        user: str = "anonymous", password: str = "guest@client.test", first: float = 5.0, most: int = 12,
        patience: float = PATIENCE, ways: tuple[str, ...] = ("PASV", "EPSV", "PORT"), chatty: bool = False,
        dawdle: Callable[[], object] | None = None, dawdle_at: str = "login",
    ) -> None:  # fmt: skip
        self.fake, self.wait, self.tls, self.user, self.password = fake, wait, tls, user, password
        self.first, self.most, self.patience, self.chatty = first, most, patience, chatty
        self.dawdle, self.dawdle_at, self.ways = dawdle, dawdle_at, list(ways)
        self.heard: list[str] = []  # every reply
        self.lost: list[BaseException] = []  # connections that ended without one

    def transfer(self, *jobs: Job) -> bool:
        """Try until all is through or finally refused, or it was tried often enough. True if nothing is left."""
        queue, delay = list(jobs), self.first
        for _ in range(self.most):
            self._session(queue)
            if not queue:
                return True
            self.wait(delay)
            delay = min(delay * 2, 3600)
        return False

    def _session(self, queue: list[Job]) -> None:
        """One connection: whatever is settled leaves the queue."""
        try:
            with Raw(self.fake, patience=self.patience) as raw:
                try:
                    self._begin(raw)
                    self._work(raw, queue)
                except Refused as refused:
                    if refused.code == 421:
                        self._hang_up(raw)
                        return
                self._ask(raw, "QUIT", any_code=True)
        except (EOFError, OSError) as error:
            self.lost.append(error)

    def _begin(self, raw: Raw) -> None:
        if self.tls is not None and self.fake.tls == "implicit":
            raw.wrap(self.tls)
        self._ask(raw)
        if self.tls is not None and self.fake.tls == "starttls":
            self._ask(raw, "AUTH TLS")
            raw.wrap(self.tls)
        self._ask(raw, f"USER {self.user}")
        self._ask(raw, f"PASS {self.password}")
        if self.tls is not None:
            self._ask(raw, "PBSZ 0")
            self._ask(raw, "PROT P")
            raw.private = self.tls
        self._ask(raw, "TYPE I")
        self._dawdle("login")
        for line in ("NOOP", "CWD /", "PWD", "SIZE small.txt", "REST 0") if self.chatty else ():
            self._ask(raw, line)

    def _dawdle(self, at: str) -> None:
        if self.dawdle is not None and self.dawdle_at == at:
            self.dawdle, dawdle = None, self.dawdle
            dawdle()

    def _hang_up(self, raw: Raw) -> None:
        """Say nothing more, and hear whether there was more to a 421 than its first reply."""
        if not isinstance(raw.sock, ssl.SSLSocket):
            raw.sock.shutdown(socket.SHUT_WR)
            self.heard += raw.until_end().splitlines()

    def _work(self, raw: Raw, queue: list[Job]) -> None:
        while queue:
            job = queue[0]
            try:
                self._do(raw, job)
            except Refused as refused:
                if refused.code < 500:
                    raise
                job.failed = refused.code
            queue.remove(job)

    def _do(self, raw: Raw, job: Job) -> None:
        there = self._there(raw, job)
        if job.is_upload and job.tried and there == len(job.content):
            return
        job.tried, there = True, there or 0
        with self._data(raw) as data:
            if there and job.verb in ("RETR", "STOR"):
                self._ask(raw, f"REST {there}")
            begun = self._ask(raw, f"{job.verb} {job.name}" if job.verb != "STOU" else "STOU")
            if name := re.search(r"FILE: (\S+)", begun):  # RFC 1123 §4.1.2.9: the name that the server has chosen
                job.verb, job.name = "STOR", name[1]
            with contextlib.suppress(OSError):  # the reply says what has become of it
                self._move(data, job, there)
            self._ask(raw)

    def _there(self, raw: Raw, job: Job) -> int | None:
        """How much of it is where it is to be; None if nothing is, not even its name."""
        if not job.is_upload:
            return len(job.content)
        if not job.tried or not job.name:
            return None
        reply = self._ask(raw, f"SIZE {job.name}", any_code=True)
        if reply[:3] == "421":
            raise Refused(421)
        return int(reply[4:]) if reply.startswith("213") else None

    def _data(self, raw: Raw) -> Data:
        way = self.ways[0]
        try:
            if way in ("PASV", "EPSV"):
                # Whatever the reply says, it is the host of the control connection that is connected to: many
                # servers behind a NAT name an address that nobody can reach.
                return raw.visit(port_of(self._ask(raw, way)))
            data = raw.listen()
            try:
                self._ask(raw, raw.where(data, way))
            except BaseException:
                data.close()
                raise
            return data
        except (Refused, OSError):
            self._turn()
            raise

    def _move(self, data: Data, job: Job, there: int) -> None:
        if job.is_upload:
            half = (there + len(job.content)) // 2
            data.send(job.content[there:half])
            self._dawdle("upload")
            data.send(job.content[half:])
            data.end()
        else:
            job.content = bytearray(job.content)
            data.rest(job.content)

    def _turn(self) -> None:
        """The next way to a data connection."""
        self.ways.append(self.ways.pop(0))

    def _ask(self, raw: Raw, line: str = "", any_code: bool = False) -> str:
        if line:
            raw.send(line + "\r\n")
        reply = raw.reply()
        self.heard.append(reply)
        code = int(reply[:3])
        if code == 425:
            self._turn()
        if code >= 400 and not any_code:
            raise Refused(code)
        return reply
