"""A transport for an accepted socket without TLS, which begins and ends at once.

asyncio's own transport needs three turns of the loop and a task to begin, which is most of the work for a fake that sends
each client a line or two. TLS uses asyncio's (see `notnow.servers.base.handshake`).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

CHUNK = 65_536  # bytes that are read at a time; larger reads would each map memory
READS = 16  # reads in one turn, in a loop that calls a reader once
HIGH, LOW = 65_536, 16_384  # unsent bytes at which a protocol is told to pause, and to resume


def tells_once(loop: asyncio.AbstractEventLoop) -> bool:
    """True for uvloop. When a connection is reset, it calls a reader once and never again, even if bytes came before the
    reset: the reader must read to the end.
    """
    return not isinstance(loop, asyncio.BaseEventLoop)


class Plain(asyncio.Transport):
    """A connection whose protocol begins in this turn of the loop. The protocol has the methods of `asyncio.Protocol`."""

    _protocol: Any

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: Any) -> None:
        self._loop, self._sock, self._number = loop, sock, sock.fileno()
        self.set_protocol(protocol)
        self._buffer = b""  # a bytearray once there is something to keep
        self._closing = self._reading = self._choked = self._ends = self._comes_back = False
        self._passing = self._leaving = False  # bytes are being passed on; it ends when they have been
        self._tells_once = tells_once(loop)

    def begin(self) -> None:
        """Call `connection_made`, and start to read."""
        self._protocol.connection_made(self)
        if not self._closing:
            self.resume_reading()

    # ---- reading ---------------------------------------------------------------------------------

    def _read_to_the_end(self) -> None:
        """Read in a loop that calls a reader only once after a reset: in several turns."""
        for _ in range(READS):
            if not (self._read() and self._reading):
                return
        if not self._comes_back:
            self._comes_back = True
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._comes_back = False
        if self._reading:
            self._read_to_the_end()

    def _read(self) -> bool:
        """Read once, and pass the bytes on. True if there may be more."""
        try:
            if self._fills:
                buffer = self._protocol.get_buffer(-1)
                data: bytes | memoryview = memoryview(buffer)[: self._sock.recv_into(buffer)]
            else:
                data = self._sock.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._lose(error)
            return False
        self._passing = True
        try:
            if not data:
                self.pause_reading()
                if not self._protocol.eof_received():
                    self.close()
            elif isinstance(data, bytes):
                self._protocol.data_received(data)
            else:
                self._protocol.buffer_updated(len(data))
        except BaseException as error:  # a bug of ours: the loop reports it, and this connection ends
            self._lose(error if isinstance(error, Exception) else None)
            raise
        self._passing = False
        if self._leaving:
            self._lose(None)
        return len(data) > 0

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._number)

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._number, self._read_to_the_end if self._tells_once else self._read)

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        if not self._buffer:
            try:
                n = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                n = 0
            except OSError as error:
                self._lose(error, at_once=False)
                return
            if n == len(data):
                return
            self._buffer = bytearray(data[n:])  # type: ignore[assignment]
            self._loop.add_writer(self._number, self._writable)
        else:
            self._buffer += data
        if len(self._buffer) > HIGH and not self._choked:
            self._choked = True
            self._protocol.pause_writing()

    def _writable(self) -> None:
        try:
            n = self._sock.send(self._buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        del self._buffer[:n]  # type: ignore[attr-defined]
        if not self._buffer:
            self._loop.remove_writer(self._number)
            if self._closing:
                self._lose(None)
            elif self._ends:
                self._shut_down()
            if self._number < 0:
                return
        if self._choked and len(self._buffer) <= LOW:
            self._choked = False
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Raises OSError if the client has reset the connection."""
        self._ends = True
        if not self._buffer:
            self._sock.shutdown(socket.SHUT_WR)

    def _shut_down(self) -> None:
        """Close our sending side, now that everything is sent; the client may have reset the connection meanwhile."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    # ---- the end ---------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if self._reading:
                self._reading = False
                self._loop.remove_reader(self._number)
            if self._passing and not self._buffer:
                self._leaving = True  # the protocol has returned by then, and no turn of the loop is needed
            elif not self._buffer:
                self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._lose(None, at_once=False)

    def _force_close(self, error: Exception | None) -> None:
        """asyncio's TLS calls this when a handshake fails."""
        self._lose(error, at_once=False)

    def _lose(self, error: Exception | None, at_once: bool = True) -> None:
        """The connection is lost. The protocol is told once."""
        if self._number < 0:
            return
        self._closing = True
        self.pause_reading()
        if self._buffer:
            self._loop.remove_writer(self._number)
        self._number = -1
        if at_once:
            self._close(error)
        else:
            self._loop.call_soon(self._close, error)

    def _close(self, error: Exception | None) -> None:
        self._sock.close()
        protocol, self._protocol = self._protocol, None  # no circle is left for the garbage collector
        protocol.connection_lost(error)

    # ---- who and what ----------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self._sock
        if name == "peername":
            with contextlib.suppress(OSError):
                return self._sock.getpeername()
        return default

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol
        self._fills = isinstance(protocol, asyncio.BufferedProtocol)  # a buffer of its own: the TLS of a STARTTLS

    def get_protocol(self) -> Any:
        return self._protocol

    def hand_over(self, protocol: asyncio.BufferedProtocol, early: bytes) -> None:
        """Replace the protocol. `early` are bytes that have been read and belong to the new one."""
        before = self._protocol
        self.set_protocol(protocol)
        protocol.connection_made(self)
        if self._choked and before is not None:  # from here on the new protocol waits
            before.resume_writing()
            protocol.pause_writing()
        while early and not self._closing:
            buffer = memoryview(protocol.get_buffer(len(early)))
            count = min(len(buffer), len(early))
            buffer[:count] = early[:count]
            protocol.buffer_updated(count)
            early = early[count:]
        self.resume_reading()  # the new protocol also gets the end of the stream
