"""A data connection: transferring, and the ways to end (RFC 959 §3.3).

`DataConnection` replaces pyftpdlib's `DTPHandler`, which leaves no control over the end of a connection. It has the methods
that pyftpdlib's commands call.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, Protocol

from pyftpdlib.handlers.ftp.producers import FileProducer

from notnow.journal import Connection, Failure
from notnow.protocols.ftp import DataEnding
from notnow.servers.base import handshake, listener, tls
from notnow.servers.base.transport import tells_once
from notnow.servers.ftp import private
from notnow.servers.ftp.files import NoRoomError
from notnow.servers.ftp.host import FileHost
from notnow.servers.ftp.newlines import Newlines
from notnow.servers.ftp.opened import Reader, Writer

PIECE = 65_536  # bytes that are read at a time, or sent from a file
CHUNK = 1_048_576  # bytes that are sent before others have their turn
NOTHING, READ, WRITE = range(3)  # the events that the selector watches for


class DataOwner(Protocol):
    """The session of a data connection, as the connection uses it."""

    @property
    def host(self) -> FileHost: ...

    record: Connection
    private: bool  # PROT P
    watch: int | None  # bytes until `data_reaches` is called

    @property
    def is_ragged(self) -> bool:
        """True if the TLS of this transfer is to end without a close_notify."""

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context of the control connection, whose sessions a data connection may resume."""

    @property
    def certificate(self) -> tls.Shown:
        """The certificate that data connections show."""

    def data_begins(self, data: DataConnection) -> bool:
        """The first byte is next. True if a rule acts first, and resumes the connection later."""

    def data_passes(self) -> None:
        """Some bytes have passed."""

    def data_reaches(self, data: DataConnection) -> None:
        """The byte that was watched for has passed; the connection is paused."""

    def data_ends(self, data: DataConnection, how: DataEnding, reply: str | None, whole: bool) -> None:
        """The connection has ended, and with it the transfer on it."""

    def break_off(self, error: Exception) -> None:
        """Our own code has failed: end the session."""


class DataConnection:
    """A data connection, and the transfer on it.

    It is idle until a command of pyftpdlib gives it data to send (`push`, `push_with_producer`) or a file to receive
    (`enable_receiving`). It counts the bytes that pass, and pauses exactly at the watched byte.
    """

    def __init__(self, sock: socket.socket, port: int, session: DataOwner) -> None:
        sock.setblocking(False)
        self.session, self._loop = session, session.host.loop
        self._sock, self._number, self._port = sock, sock.fileno(), port
        session.host.ports.add(port)
        self.file_obj: Any = None
        self.cmd = ""
        self.receive = self.closed = self.paused = False
        self.bytes = 0
        self._begun = session.host.clock.now()
        self._out: memoryview | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._step: Callable[[], bool] | None = (
            None  # the next step of the transfer; it returns True if another can follow at once
        )
        self._ascii: Newlines | None = None
        self._watching = NOTHING
        self._is_new = True  # the engine has not been asked about it yet
        self.resumed: bool | None = None  # in TLS: whether the client resumed a session
        self.by: Literal["client", "fake"] = "fake"  # that ends it, before all has passed
        self.failure: Failure | None = None  # of its TLS
        self._late: asyncio.TimerHandle | None = None  # the end of a handshake that takes too long
        self._private = self._shaking = session.private
        if self._private:  # PROT P (RFC 4217 §9): the client begins a TLS handshake here
            self._watch(READ)

    # ---- what pyftpdlib asks of it ---------------------------------------------------------------

    @property
    def tot_bytes_sent(self) -> int:
        return 0 if self.receive else self.bytes

    @property
    def tot_bytes_received(self) -> int:
        return self.bytes if self.receive else 0

    def get_elapsed_time(self) -> float:
        return round(self.session.host.clock.now() - self._begun, 3)

    def transfer_in_progress(self) -> bool:
        return self.bytes > 0

    def push(self, data: bytes) -> None:
        self._out = memoryview(data)

    def push_with_producer(self, producer: Any) -> None:
        if isinstance(producer, FileProducer) and producer.type == "i" and isinstance(producer.file, Reader):
            if not self._private and producer.file.descriptor() >= 0:
                self._begin(lambda: self._send_file(producer.file))
                return
            self._pieces = iter(partial(producer.file.read, PIECE), b"")
        else:
            self._pieces = iter(producer.more, b"")

    def close_when_done(self) -> None:
        """All data to send is known: begin."""
        if self._step is None:
            self._begin(self._send)

    def enable_receiving(self, type: str, cmd: str) -> None:
        self.receive, self.cmd = True, cmd
        self._ascii = Newlines() if type == "a" else None
        self._begin(self._receive)

    def handle_error(self) -> None:
        raise

    def close(self) -> None:
        """Cancel the transfer without a reply (a new PASV)."""
        self.by = "client"
        self.end("fin")

    # ---- the engine of it ------------------------------------------------------------------------

    def _begin(self, step: Callable[[], bool]) -> None:
        self._step = step
        if self._shaking:
            self._limit()
        else:
            self._go()

    def _go(self) -> None:
        """Do the next step, if nothing prevents it."""
        if self._step is not None and not self.paused and not self.closed:
            self._guard(self._advance)

    def _advance(self) -> None:
        assert self._step is not None
        new, self._is_new = self._is_new, False
        if (new and self.session.data_begins(self)) or self._passed(0):  # a rule acts before the first byte
            return
        before = self.bytes
        try:
            self._do(self._step)
        except NoRoomError:
            self.end("drain", "552 Requested file action aborted: exceeded storage allocation.")
        except OSError as error:  # the client has reset it, or broken its TLS
            tls.forget_errors()
            self.by, self.failure = "client", tls.alert(error) if isinstance(error, ssl.SSLError) else None
            self._finish(f"426 Connection closed; transfer aborted after {self.bytes} bytes.", whole=False)
        if self.bytes != before and not self.closed:
            self.session.data_passes()

    def _do(self, step: Callable[[], bool]) -> None:
        try:
            more = step()
        except ssl.SSLWantReadError:
            self._watch(READ)
        except ssl.SSLWantWriteError:
            self._watch(WRITE)
        except (BlockingIOError, InterruptedError):
            self._watch(READ if self.receive else WRITE)
        else:
            if more:
                self._watch(READ if self.receive else WRITE)
                if self._pending():
                    self._loop.call_soon(self._go)

    def _pending(self) -> bool:
        """True if the selector may not report what is left to read: bytes in the TLS layer, or a reset on uvloop."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0:
            return True
        return self.receive and tells_once(self._loop)

    def _send(self) -> bool:
        for _ in range(CHUNK // PIECE):
            while not self._out:
                piece = next(self._pieces, None)
                if piece is None:
                    self._finish("226 Transfer complete.", whole=True)
                    return False
                self._out = memoryview(piece)
            n = self._sock.send(self._out[: self._allowed()])
            self._out = self._out[n:]
            if self._passed(n):
                return False
        return True

    def _send_file(self, file: Reader) -> bool:
        if (left := file.size - file.position) > 0:
            n = os.sendfile(self._number, file.descriptor(), file.position, min(left, self._allowed()))
            file.position += n
            if self._passed(n):
                return False
        if file.position < file.size:
            return True
        self._finish("226 Transfer complete.", whole=True)
        return False

    def _receive(self) -> bool:
        sock, most = self._sock, self._allowed()
        data = private.received(sock, most) if isinstance(sock, ssl.SSLSocket) else sock.recv(most)
        if not data:
            if self._ascii is not None:
                self.file_obj.write(self._ascii.rest())
            self._finish("226 Transfer complete.", whole=True)
            return False
        self.file_obj.write(self._ascii(data) if self._ascii else data)
        return not self._passed(len(data))

    def _allowed(self) -> int:
        """The number of bytes that may pass at once: at most up to the watched byte."""
        watch = self.session.watch
        most = PIECE if self.receive else CHUNK
        return most if watch is None else min(most, watch - self.bytes)

    def _passed(self, n: int) -> bool:
        """Count `n` bytes. True if the watched byte was among them."""
        self.bytes += n
        watch = self.session.watch
        if watch is None or self.bytes < watch:
            return False
        self.pause()
        self.session.data_reaches(self)
        return True

    def pause(self) -> None:
        self.paused = True
        self._watch(NOTHING)

    def resume(self) -> None:
        """Continue after a pause."""
        self.paused = False
        self._go()

    # ---- its end ---------------------------------------------------------------------------------

    def _finish(self, reply: str, whole: bool) -> None:
        """The transfer has ended; `whole`: it is complete."""
        self._close_file(whole)
        if isinstance(self._sock, ssl.SSLSocket) and not self.session.is_ragged:
            self._step = lambda: self._take_leave(reply, whole)
            self._go()
        else:
            self.end("drain" if self._private else "fin", reply, whole)

    def _take_leave(self, reply: str, whole: bool) -> bool:
        assert isinstance(self._sock, ssl.SSLSocket)
        private.take_leave(self._sock)
        self.end("drain", reply, whole)
        return False

    def _close_file(self, whole: bool) -> None:
        if whole and isinstance(self.file_obj, Writer):
            self.file_obj.finish()
        if self.file_obj is not None:
            self.file_obj.close()

    def end(self, how: DataEnding, reply: str | None = None, whole: bool = False, keep: bool = True) -> None:
        """End the connection, and with it the transfer; its reply is `reply`, None for no reply."""
        if self.closed:
            return
        self.closed = True
        self._watch(NOTHING)
        self._unlimit()
        if not whole and not keep and isinstance(self.file_obj, Writer):
            self.file_obj.discard()
        self._close_file(False)
        self._part(how)
        self._step = None  # it refers to this object, which would be garbage for longer
        self.session.data_ends(self, how, reply, whole)

    def _part(self, how: DataEnding) -> None:
        sock = self._sock
        self.session.host.ports.discard(self._port)
        if how == "reset":
            listener.reset(sock)
            return
        if how == "drain":
            self.session.host.drains.part(sock, b"", self.session.record)
        else:
            sock.close()

    # ---- TLS -------------------------------------------------------------------------------------

    def _shake(self) -> None:
        self._limit()
        try:
            if not isinstance(self._sock, ssl.SSLSocket):
                self._sock = private.secured(self._sock, self.session.context, self.session.certificate)
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(READ)
        except ssl.SSLWantWriteError:
            self._watch(WRITE)
        except OSError as error:
            tls.forget_errors()
            self._not_private(error)
        else:
            self._shaking = False
            self._unlimit()
            self.resumed = bool(self._sock.session_reused)
            self._watch(NOTHING)
            private.acknowledge(self._sock)
            self._go()

    def _not_private(self, error: OSError) -> None:
        """The handshake has failed, or takes too long."""
        why = getattr(error, "reason", None) or str(error)
        self.by, self.failure = "client", tls.failure(error)
        self.end("fin", f"425 Can't open data connection: TLS handshake failed ({why}).")

    def _limit(self) -> None:
        """The client's handshake is next: it has begun, or the transfer waits for it."""
        if self._late is None:
            error = TimeoutError(f"it took longer than {handshake.HANDSHAKE} s")
            self._late = self._loop.call_later(handshake.HANDSHAKE, self._not_private, error)

    def _unlimit(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    # ---- the selector ----------------------------------------------------------------------------

    def _watch(self, what: int) -> None:
        if what == self._watching:
            return
        number, loop = self._number, self._loop
        if self._watching == READ:
            loop.remove_reader(number)
        elif self._watching == WRITE:
            loop.remove_writer(number)
        self._watching = what
        if what == READ:
            loop.add_reader(number, self._awake)
        elif what == WRITE:
            loop.add_writer(number, self._awake)

    def _awake(self) -> None:
        if self._shaking:
            self._guard(self._shake)
        else:
            self._go()

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            self.end("fin")
            self.session.break_off(error)
