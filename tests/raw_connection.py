"""A connection to a fake that says what it is told to and reads replies: what the clients of all protocols share."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import struct
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, Self

from notnow.servers.base.fake import Fake

PATIENCE = 20.0  # real seconds after which a socket gives up: only a bug takes as long


def trusting(fake: Fake) -> ssl.SSLContext:
    """A client's context that trusts this fake's CA."""
    return ssl.create_default_context(cafile=fake.ca_file)


@contextlib.contextmanager
def holding(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """A loop stands still in this block; then it finds everything that clients have done in it at once."""
    held, go = threading.Event(), threading.Event()
    loop.call_soon_threadsafe(lambda: (held.set(), go.wait(PATIENCE)))
    assert held.wait(PATIENCE)
    try:
        yield
    finally:
        go.set()


def alive(fake: Fake, *kinds: type, most: int) -> int:
    """How many objects of these kinds, whose host is this fake, are alive: at most so many, if not for a leak."""
    until = time.monotonic() + PATIENCE
    while True:
        gc.collect()  # which does nothing while another thread collects
        found = sum(type(one) in kinds and getattr(one, "host", None) is fake._bridge for one in gc.get_objects())
        if found <= most or time.monotonic() > until:
            return found
        time.sleep(0.05)  # to another thread that collects, what is looked at is in use


def wrapped(sock: socket.socket, context: ssl.SSLContext, name: str | None) -> ssl.SSLSocket:
    """Shake hands on a socket; where that fails, it is closed."""
    try:
        return context.wrap_socket(sock, server_hostname=name)
    except BaseException as error:
        sock.close()
        # Of a connection that was reset meanwhile, `ssl` leaves a half-made socket behind, and it open.
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if isinstance(half_made := frame.f_locals.get("self"), ssl.SSLSocket):
                half_made.close()
        raise


class TLSSocket:
    """TLS on a socket, by hand: it tells a reset from an end, which Python's own sockets do not.

    For the rest it behaves as its socket.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str | None) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._unsent = b""
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._hear()
            except ssl.SSLError:
                self._flush()  # the alert
                raise
            else:
                self._flush()
                return

    def _flush(self) -> None:
        self._unsent += self._out.read()
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def _hear(self) -> None:
        if data := self._sock.recv(65_536):
            self._in.write(data)
        else:
            self._in.write_eof()

    def send(self, data: bytes) -> int:
        self._flush()
        sent = self._tls.write(data)
        with contextlib.suppress(BlockingIOError):
            self._flush()
        return sent

    def sendall(self, data: bytes) -> None:
        self._flush()
        if data:
            self._tls.write(data)
        self._flush()

    def recv(self, size: int) -> bytes:
        """What comes next; nothing at the end, with a close_notify or without. Raises ConnectionResetError."""
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._hear()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def getpeercert(self) -> dict[str, Any] | None:
        return self._tls.getpeercert()

    def selected_alpn_protocol(self) -> str | None:
        return self._tls.selected_alpn_protocol()

    def version(self) -> str | None:
        return self._tls.version()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class RawConnection:
    """A connection to a fake that says what it is told to and reads replies, or what comes instead."""

    def __init__(
        self, fake: Fake, *, tls: ssl.SSLContext | None = None, name: str = "localhost", patience: float = PATIENCE
    ) -> None:
        self.fake, self.patience = fake, patience
        self.sock: socket.socket = socket.create_connection((fake.host, fake.port), timeout=patience)
        with contextlib.suppress(OSError):  # reset already
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if tls is not None:
            self.wrap(tls, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the connection ------------------------------------------------------------------------

    def wrap(self, context: ssl.SSLContext, name: str | None = "localhost") -> None:
        self.sock = wrapped(self.sock, context, name)

    def close(self) -> None:
        self.sock.close()

    def half_close(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # ---- saying --------------------------------------------------------------------------------

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def say(self, line: str) -> str:
        """Send a line and read its reply."""
        self.send(line + "\r\n")
        return self.reply()

    # ---- reading -------------------------------------------------------------------------------

    def line(self) -> str:
        """The next line without its end. Raises EOFError at the end, and OSError for a reset."""
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    def reply(self) -> str:
        """The next reply, its lines joined by newlines; what stands between the first and the last needs no code."""
        lines = [self.line()]
        if lines[0][3:4] == "-":
            while lines[-1][:3] != lines[0][:3] or lines[-1][3:4] == "-":
                lines.append(self.line())
        return "\n".join(lines)

    def replies(self, n: int) -> list[str]:
        return [self.reply() for _ in range(n)]

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def exactly(self, size: int) -> bytes:
        """The next so many bytes."""
        pieces = bytearray(self.buffer)
        while len(pieces) < size:
            if not (data := self.sock.recv(size - len(pieces))):
                raise EOFError(pieces)
            pieces += data
        self.buffer = bytes(pieces[size:])
        return bytes(pieces[:size])

    def until_end(self) -> str:
        """Everything until the end. Raises OSError where a reset comes instead."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        return self.buffer.decode("utf-8", "replace")  # an error may repeat what it is about

    def end(self) -> str:
        """Read to the end of the connection: "fin" or "reset"."""
        try:
            self.until_end()
        except ConnectionResetError:
            return "reset"
        return "fin"

    @property
    def ended(self) -> bool:
        """True if the next thing to read is the end."""
        return not self.buffer and self.sock.recv(1) == b""

    def silent(self) -> bool:
        """True if nothing has come. Only after something else has proved that it would have."""
        self.sock.setblocking(False)
        try:
            self.buffer += self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return not self.buffer
        finally:
            self.sock.settimeout(self.patience)
        return False


class ExactTLS(RawConnection):
    """A connection that tells a reset in TLS from an end."""

    def wrap(self, context: ssl.SSLContext, name: str | None = "localhost") -> None:
        below = self.sock
        try:
            self.sock = TLSSocket(below, context, name)  # type: ignore[assignment]
        except BaseException:
            below.close()
            raise


class Refused(Exception):
    """A reply that was not the one hoped for; `code` is its code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
