"""The sockets of data connections in TLS (PROT P, RFC 4217 §9): their begin, what they receive, and their end.

All of them are non-blocking: ssl.SSLWantReadError and ssl.SSLWantWriteError say what to wait for.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from notnow.servers.base import tls


def secured(sock: socket.socket, context: ssl.SSLContext, certificate: tls.Shown) -> ssl.SSLSocket:
    """A socket that will shake hands, with this certificate. Raises OSError if the client has already left.

    The client may resume the session of the control connection, as vsftpd (require_ssl_reuse) and ProFTPD demand: so
    TLS begins with its `context`. There are no tickets: a client that only sends does not read them, and a socket
    that is closed with unread bytes drops its unsent ones.
    """
    sock.getpeername()  # `ssl` would raise, too, but leave an unclosed socket behind
    found = tls.wrapped_without_tickets(context, sock)
    found.context = tls.context(certificate)
    return found


def acknowledge(sock: ssl.SSLSocket) -> None:
    """Make the kernel acknowledge the end of the handshake at once.

    We send nothing after it, so the kernel would delay the acknowledgement by 40 ms, and the upload with it.
    """
    if hasattr(socket, "TCP_QUICKACK"):  # Linux
        with contextlib.suppress(OSError):  # the client has reset it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def received(sock: ssl.SSLSocket, most: int) -> bytes:
    """At most so many bytes; none at the end, with a close_notify or without. Raises OSError for a reset."""
    there = _has_peer(sock)
    try:
        return sock.recv(most)
    except ssl.SSLEOFError as error:
        # A FIN without a close_notify, which many servers accept, or a reset: OpenSSL and Python raise the same error
        # for both. OpenSSL 3 mostly gives a FIN a reason of its own, and then loses the peer by sending an alert.
        if not there or (error.reason != "UNEXPECTED_EOF_WHILE_READING" and not _has_peer(sock)):
            raise
        return b""


def _has_peer(sock: ssl.SSLSocket) -> bool:
    """False once the connection has been reset."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def take_leave(sock: ssl.SSLSocket) -> None:
    """End TLS with a close_notify: without it, the client must assume that data is missing (RFC 8446 §6.1)."""
    try:
        sock.unwrap()
    except ssl.SSLWantWriteError:
        raise
    except (OSError, ValueError):
        tls.forget_errors()  # our close_notify is sent, and we do not wait for the client's; or TLS has failed
