"""FTP clients for tests: `Raw` says what it is told to on the control connection, and opens `Data` connections."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import struct
from typing import Self

import smtp_client
from notnow import FakeFTP, Scenario
from notnow.scenario import loads
from smtp_client import PATIENCE, one, then, trusting

__all__ = ["BIG", "MODES", "Data", "Raw", "fds", "one", "rules", "then", "trusting"]

MODES = ("PASV", "EPSV", "PORT", "EPRT")
BIG = 3_000_000  # bytes of big.bin


def rules(*texts: str, head: str = "", phase: str = "") -> Scenario:
    """A scenario of these rules. `head` stands above its phase and `phase` in it; a text may begin further phases."""
    return loads("\n".join(['protocol = "ftp"', head, '[[phase]]\nname = "one"', phase, *texts]), name="test")


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
            try:
                self._sock = listener.accept()[0]
            finally:
                listener.close()
            self._sock.settimeout(PATIENCE)
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

    def rest(self) -> bytes:
        """Everything until the end. Raises OSError where a reset comes, or in TLS an end without a goodbye."""
        got = bytearray()
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


class Raw(smtp_client.Raw):
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

    def reply(self) -> str:
        """The next reply, its lines joined by newlines: all to the one with its code and a space (RFC 959 §4.2)."""
        lines = [self.line()]
        while lines[0][3:4] == "-" and not (len(lines) > 1 and lines[-1].startswith(lines[0][:3] + " ")):
            lines.append(self.line())
        return "\n".join(lines)

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
        sock.settimeout(PATIENCE)
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
        sock.settimeout(PATIENCE)
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
