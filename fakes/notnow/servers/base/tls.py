"""Certificates and TLS contexts: one CA a process, made when TLS is first used.

Contexts are cached by the certificate that they show, and do not depend on a fake. A context variable holds the connection
of a handshake, as a `Handshake`.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import datetime
import os
import re
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

from msgspec import Struct

from notnow.language.limits import idna_name, is_certifiable

if TYPE_CHECKING:
    import trustme

    from notnow.language.server import Certificate

from notnow import true_time
from notnow.journal import AlertReceived, CertificateRejected, Defect, Failure, HandshakeAbandoned, HandshakeFailed

PREFIX = "notnow-"  # of our directories, followed by the process id
P = ParamSpec("P")
T = TypeVar("T")
_making = threading.RLock()

current: contextvars.ContextVar[Handshake | None] = contextvars.ContextVar("notnow_handshake", default=None)


class Shown(Struct, frozen=True):
    """The certificate to show: the names that it covers, and its defects."""

    names: tuple[str, ...]
    expired: bool = False
    untrusted: bool = False
    incomplete: bool = False


class Handshake(Protocol):
    """A connection that answers a ClientHello at once."""

    def client_hello(self, sni: str | None) -> tuple[ssl.SSLContext | None, str | None]:
        """The context to continue with, and the alert to refuse with; either may be None."""


def covers(names: Sequence[str], host: str) -> bool:
    """True if a certificate for `names` is good for `host` (RFC 9525 §6.3: one wildcard label, leftmost)."""
    host = _ascii(host.rstrip("."))
    parent = host.partition(".")[2]
    return any(n == host or (n.startswith("*.") and n[2:] == parent) for n in map(_ascii, names))


def choose(
    certificates: Mapping[str, Certificate], name: str | None, sni: str | None, own: Sequence[str]
) -> tuple[str, Shown]:
    """The name of the certificate to show, for the journal, and the certificate.

    A rule may name it. Otherwise it is the first that covers the SNI, or else the first. A scenario without certificates
    gets one that covers the server's own names and the SNI.
    """
    if not certificates:
        return "default", Shown((*own, *((sni,) if sni and not covers(own, sni) else ())))
    if name is None:
        name = next((n for n, c in certificates.items() if sni and covers(c.names, sni)), next(iter(certificates)))
    found = certificates[name]
    return name, Shown(found.names, found.expired, found.untrusted, found.incomplete)


def defects(shown: Shown, sni: str | None) -> tuple[Defect, ...]:
    """Why a client that asked for the name `sni` must not trust this certificate; see `notnow.journal.TLS`."""
    found: list[Defect] = [name for name in ("untrusted", "expired", "incomplete") if getattr(shown, name)]
    if sni is not None and not covers(shown.names, sni):
        found.append("name")
    return tuple(found)


# ---- what clients do wrong, or right -------------------------------------------------------------

# The alerts by which a client rejects a certificate (RFC 8446 §6.2, RFC 5246 §7.2.2).
_REJECTIONS = frozenset({
    "bad_certificate", "unsupported_certificate", "certificate_revoked", "certificate_expired", "certificate_unknown",
    "unknown_ca", "bad_certificate_status_response", "bad_certificate_hash_value", "certificate_unobtainable",
})  # fmt: skip
_ALERT = re.compile(r"^(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)$")  # OpenSSL's reasons for alerts of the peer


def alert(error: ssl.SSLError) -> CertificateRejected | AlertReceived | None:
    """The alert of the client that has caused this error, None if none has."""
    found = _ALERT.match(error.reason or "")
    if found is None:
        return None
    name = found[1].lower()
    return CertificateRejected(name) if name in _REJECTIONS else AlertReceived(name)


def failure(error: BaseException) -> Failure:
    """Why a handshake failed: an alert of the client, its end without one, or anything else."""
    if isinstance(error, ssl.SSLError) and (found := alert(error)) is not None:
        return found
    gone = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError))
    if gone and "taking longer" not in str(error):  # asyncio's words for a time-out of the handshake
        return HandshakeAbandoned(done=False)
    return HandshakeFailed(getattr(error, "reason", None) or str(error) or type(error).__name__)


def forget_errors() -> None:
    """Empty OpenSSL's queue of errors of this thread, after an OSError of a socket in TLS.

    Python 3.14 leaves the error of the system there, and the next connection that this thread reads would fail with it.
    """
    with contextlib.suppress(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers("none of them")  # it empties the queue as it fails


def _once(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`lru_cache` with a lock: threads that call at the same time must get the same CA."""

    def wrap(make: Callable[P, T]) -> Callable[P, T]:
        made = cast("Callable[P, T]", lru_cache(maxsize)(make))

        @wraps(make)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with _making:
                return made(*args, **kwargs)

        return call

    return wrap


def _in_memory(content: bytes) -> tuple[str, int] | None:
    """A file in memory, as its path and its descriptor; None if the system has no such files.

    It disappears with this process, even after SIGKILL, which runs no code of ours. Other processes of the same user can
    open the path, as they could open a file in a private directory.
    """
    if sys.platform != "linux":
        return None
    try:
        number = os.memfd_create("notnow.pem")
    except OSError:
        return None
    with open(number, "wb", closefd=False) as file:
        file.write(content)
    path = f"/proc/{os.getpid()}/fd/{number}"
    if os.access(path, os.R_OK):
        return path, number
    os.close(number)  # /proc is not mounted, or is hidden
    return None


@_once(maxsize=1)
def _directory() -> Path:
    """A directory for systems without files in memory. Directories of killed processes are removed now."""
    import tempfile

    _sweep(Path(tempfile.gettempdir()))
    path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    atexit.register(_remove, path, os.getpid())
    return path


def _sweep(where: Path) -> None:
    """Remove the directories of processes that have ended. Windows has no harmless way to ask for a process."""
    import shutil

    for path in where.glob(f"{PREFIX}*-*") if sys.platform != "win32" else ():
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal():
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(path, ignore_errors=True)
            except (OSError, OverflowError):
                continue  # of another user


def _remove(path: Path, owner: int) -> None:
    import shutil

    if os.getpid() == owner:  # not in a forked child
        shutil.rmtree(path, ignore_errors=True)


@_once(maxsize=2)
def _authority(trusted: bool) -> trustme.CA:
    import trustme

    with true_time.true_datetime():
        return trustme.CA(organization_name="notnow" if trusted else "nobody you trust")


@_once(maxsize=2)
def _intermediate(trusted: bool) -> trustme.CA:
    return _authority(trusted).create_child_ca()


@_once(maxsize=1)
def ca_file() -> str:
    """The path of a PEM file with the CA that clients should trust; the file disappears with the process."""
    return file_of(_authority(True).cert_pem.bytes())


@_once(maxsize=8)  # each stays open as long as the process lives
def file_of(content: bytes) -> str:
    """The path of a file with this content, for programs that want a path; the file disappears with the process."""
    if (found := _in_memory(content)) is not None:
        return found[0]
    return str(_on_disk(content))


def _on_disk(content: bytes) -> Path:
    import tempfile

    number, name = tempfile.mkstemp(".pem", dir=_directory())
    os.close(number)
    path = Path(name)
    path.write_bytes(content)
    return path


class _Context(ssl.SSLContext):
    """A server context whose SSL objects know the `Handshake` that they belong to."""

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        wrapped = super().wrap_bio(*args, **kwargs)
        wrapped.notnow = current.get()  # type: ignore[attr-defined]
        return wrapped


def _issue(shown: Shown) -> trustme.LeafCert:
    authority = _intermediate if shown.incomplete else _authority
    names = [n for n in shown.names if is_certifiable(n)]
    now = true_time.today()  # by the system's clock, which the client's TLS library reads
    return authority(not shown.untrusted).issue_cert(
        *names,
        not_before=now - datetime.timedelta(days=60),
        not_after=now - datetime.timedelta(days=1) if shown.expired else now + datetime.timedelta(days=365),
    )


issue: Callable[[Shown], trustme.LeafCert] = _issue  # in a worker, certificates come from the process that has the CA


@_once(maxsize=128)
def leaf(shown: Shown) -> trustme.LeafCert:
    """The certificate with its key."""
    return issue(shown)


@_once(maxsize=128)
def context(shown: Shown, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """A server context that shows this certificate, until a `Handshake` says otherwise.

    `alpn` lists the protocols, the preferred one first (RFC 7301).
    """
    own = leaf(shown)
    made = _Context(ssl.PROTOCOL_TLS_SERVER)
    chain = own.cert_chain_pems[:1] if shown.incomplete else own.cert_chain_pems  # without what signed the first one
    _load(made, b"".join(one.bytes() for one in (own.private_key_pem, *chain)))
    if alpn:
        made.set_alpn_protocols(alpn)
    made.sni_callback = _on_hello
    return made


def wrapped_without_tickets(context: ssl.SSLContext, sock: socket.socket) -> ssl.SSLSocket:
    """A server socket in TLS. The client may resume a session of this context, but gets no ticket for a new one.

    OpenSSL copies the number of tickets (RFC 8446 §4.6.1) from the context when the connection begins, and Python cannot
    set it later. Call it in the loop's thread only.
    """
    tickets, context.num_tickets = context.num_tickets, 0
    try:
        return context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=False)
    finally:
        context.num_tickets = tickets


def _ascii(name: str) -> str:
    if name.isascii():
        return name.lower()
    try:
        return idna_name(name)
    except UnicodeError:
        return name


def _load(made: ssl.SSLContext, content: bytes) -> None:
    """Show this certificate. OpenSSL reads it from a file only; a signal at that moment leaves none behind."""
    if (found := _in_memory(content)) is not None:
        made.load_cert_chain(found[0])
        os.close(found[1])
        return
    path = _on_disk(content)
    made.load_cert_chain(path)
    path.unlink()


def _on_hello(wrapped: Any, sni: str | None, _context: ssl.SSLContext) -> int | None:
    handshake: Handshake | None = getattr(wrapped, "notnow", None)
    if handshake is None:
        return None
    other, alert = handshake.client_hello(sni)
    if alert is not None:
        return int(getattr(ssl, f"ALERT_DESCRIPTION_{alert.upper()}"))
    if other is not None:
        wrapped.context = other
    return None


def send_alert(sock: Any, alert: str) -> None:
    """Put a fatal alert on the wire by hand (RFC 8446 §6): a record of type 21 with level 2 and the code.

    asyncio drops the alert that OpenSSL makes when the SNI callback refuses a handshake.
    """
    code = int(getattr(ssl, f"ALERT_DESCRIPTION_{alert.upper()}"))
    # A transport's socket has no send of its own. The client may have left, or may not read.
    with contextlib.suppress(OSError), sock.dup() as raw:
        raw.send(struct.pack("!BHHBB", 21, 0x0303, 2, 2, code))
