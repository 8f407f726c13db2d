"""`forward`: accepted mail goes on to an SMTP server of yours, such as Mailpit, where you can look at it.

smtplib does it, in a thread of its own since it blocks: one message at a time, in the order in which they were accepted. The
client has its reply by then, and never hears of a failure here.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import socket
import threading
from collections.abc import Callable
from smtplib import SMTP, SMTPConnectError, SMTPException, SMTPRecipientsRefused, SMTPResponseException

from notnow.bounds import FORWARDING
from notnow.servers.base.loopback import Loopback
from notnow.servers.smtp.message import Envelope

TIMEOUT = 10.0  # real seconds that the server may take for a reply
STOPPED = "the fake has stopped"
MOST_TOLD = 100  # failures of which the journal is told


class _Thread(threading.Thread):
    """A thread in real time: `notnow.time_travel.fast_forward` leaves it alone."""

    real_time = True


class Forwarder:
    """Passes on messages to a server; `tell` gets a sentence for each that could not be, in the forwarder's thread.

    `put`, `finish`, `ended` and `abort` are for the loop's thread.
    """

    def __init__(self, server: Loopback, name: str, tell: Callable[[str], None]) -> None:
        self._server, self._name, self._tell = server, name, tell
        self._queue: queue.SimpleQueue[Envelope | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._client: SMTP | None = None
        self._aborted = False
        self._put = self._done = (
            0  # bytes that were queued, and that have left the queue; each has one thread that writes it
        )
        self._failures = itertools.count(1)

    # ---- for the loop ----------------------------------------------------------------------------

    def put(self, envelope: Envelope) -> None:
        """Pass on a message later. If too many wait already, tell so instead."""
        if self._put - self._done + envelope.weight > FORWARDING and self._put > self._done:
            self._failed(envelope, "too many messages wait for that server")
            return
        self._put += envelope.weight
        self._queue.put(envelope)
        if self.ended:
            self._aborted = False
            self._thread = _Thread(target=self._run, name="notnow forward", daemon=True)
            self._thread.start()

    @property
    def ended(self) -> bool:
        """True if its thread does not run: it begins with the first message."""
        return self._thread is None or not self._thread.is_alive()

    def finish(self) -> None:
        """End when everything that waits has been passed on."""
        if not self.ended:
            self._queue.put(None)

    def abort(self) -> None:
        """End now: the server does not answer. Tell of the messages that wait."""
        self._aborted = True
        with contextlib.suppress(queue.Empty):
            while True:
                if (envelope := self._queue.get_nowait()) is not None:
                    self._done += envelope.weight
                    self._failed(envelope, STOPPED)
        self._queue.put(None)
        client = self._client
        if client is not None and client.sock is not None:
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)

    # ---- in its thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while (envelope := self._queue.get()) is not None:
            try:
                self._send(envelope)
            except Exception as error:
                self._failed(envelope, STOPPED if self._aborted else _why(error))
            self._done += envelope.weight

    def _send(self, envelope: Envelope) -> None:
        """Pass on a message with its envelope. Raises OSError (smtplib's errors are some) and UnicodeError."""
        with SMTP(local_hostname=self._name, timeout=TIMEOUT) as client:
            self._client = client
            self._connect(client)
            client.ehlo_or_helo_if_needed()
            addresses = (envelope.sender, *envelope.recipients)
            options = ["SMTPUTF8"] if not all(map(str.isascii, addresses)) else []  # RFC 6531 §3.4
            if not envelope.content.isascii() and client.has_extn("8bitmime"):
                options.append("BODY=8BITMIME")  # RFC 6152 §3
            refused = client.sendmail(envelope.sender, envelope.recipients, envelope.content, options)
            if refused:
                self._failed(envelope, _why(SMTPRecipientsRefused(refused)))

    def _connect(self, client: SMTP) -> None:
        failure: OSError | None = None
        for address in self._server.addresses:
            try:
                code, said = client.connect(address, self._server.port)
            except ConnectionRefusedError as error:
                failure = failure or error
                continue
            if code != 220:
                raise SMTPConnectError(code, said) if code > 0 else SMTPException("it does not speak SMTP")
            return
        assert failure is not None, "there is an address"
        raise failure

    def _failed(self, envelope: Envelope, why: str) -> None:
        number = next(self._failures)
        if number > MOST_TOLD:
            return
        last = "; further failures are not told" if number == MOST_TOLD else ""
        to = ", ".join(envelope.recipients)
        self._tell(f"<{envelope.sender}> to {to:.200} is not forwarded to {self._server.url}: {why}{last}")


def _why(error: Exception) -> str:
    if isinstance(error, SMTPRecipientsRefused):
        return "; ".join(f"{name}: {_reply(code, said)}" for name, (code, said) in error.recipients.items())
    if isinstance(error, SMTPResponseException):
        return _reply(error.smtp_code, error.smtp_error)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


def _reply(code: int, said: bytes | str) -> str:
    return f"{code} {said.decode('utf-8', 'replace') if isinstance(said, bytes) else said}"
