"""A TLS client that hands out its bytes, so that a test can choose when each of them is sent."""

from __future__ import annotations

import socket
import ssl


class Handshake:
    """One end of a TLS connection, on a socket that has been connected by somebody else."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.sock, self.buffer = sock, b""
        self._into, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._into, self._out, server_hostname=name)

    def hello(self) -> bytes:
        """The ClientHello, not yet sent."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._out.read()
        raise AssertionError("a handshake cannot end before it has begun")

    def finish(self, piece: int = 1 << 20, already: bytes = b"") -> None:
        """All behind the ClientHello, so many bytes at a time; `already` has been read.

        Raises EOFError and OSError where there is no TLS.
        """
        self._into.write(already)
        while True:
            if not already:
                self._more()
            already = b""
            try:
                self._tls.do_handshake()
                self._flush(piece)
                return
            except ssl.SSLWantReadError:
                self._flush(piece)

    def say(self, data: bytes) -> bytes:
        """Say something in TLS; the first line of the answer."""
        self.send(data)
        return self.line()

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush(1 << 20)

    def line(self) -> bytes:
        """The next line, with its end."""
        while b"\n" not in self.buffer:
            self.buffer += self._read()
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line + b"\n"

    def rest(self) -> bytes:
        """Everything until the end, that of TLS included."""
        while piece := self._read():
            self.buffer += piece
        return self.buffer

    def _read(self) -> bytes:
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._more()
            except ssl.SSLZeroReturnError:
                return b""

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the connection has ended without TLS")
        self._into.write(data)

    def _flush(self, piece: int) -> None:
        in_pieces(self.sock, self._out.read(), piece)


def in_pieces(sock: socket.socket, data: bytes, piece: int = 1) -> None:
    """Send so many bytes at a time, each piece in a segment of its own (the socket has TCP_NODELAY)."""
    for i in range(0, len(data), piece):
        sock.sendall(data[i : i + piece])
