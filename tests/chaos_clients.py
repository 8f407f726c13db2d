"""Small clients for the tests of sweeps and of invented scenarios: eight with one planted fault each, and six careful ones.

A client is a function of a running fake. It returns if it takes its work for done, and raises if it reports a failure. It
waits with `time.sleep`, so `fast_forward` makes it quick. The planted faults are of the kinds that real clients have; apart
from them, these clients are careful, so that nothing else is found.
"""

from __future__ import annotations

import contextlib
import ftplib
import functools
import http.client
import io
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[Any], None]

PATIENCE = 20.0  # seconds without an answer
TRIES = 20  # with the waits below, a little over an hour
TRANSIENT = frozenset({408, 421, 425, 429, 500, 502, 503, 504})  # statuses after which a request may be repeated
TROUBLE = (OSError, EOFError, ftplib.Error, http.client.HTTPException)


@dataclass(frozen=True)
class Client:
    """`options` are the server options that its fake needs; `items` is how many items it is given.

    `less` is the same client with less to do, for all pairs of faults: they grow with the square of its events.
    """

    protocol: str
    run: Run
    options: Mapping[str, Any] = field(default_factory=dict)
    items: int = 1
    less: Run | None = None


@dataclass(frozen=True)
class Planted(Client):
    """A client with a fault: what it does wrong, and what becomes of its items then.

    `harm` is a result, or a rule of conduct where nothing is lost or duplicated.
    """

    fault: str = ""
    harm: str = ""


class FailedError(Exception):
    """The client reports that it has failed."""


def tries() -> Iterator[int]:
    """One number a try; between two of them it waits, twice as long each time."""
    wait = 1.0
    for number in range(TRIES):
        yield number
        time.sleep(wait)
        wait = min(2 * wait, 300.0)
    raise FailedError(f"gave up after {TRIES} tries")


# ---- SMTP ------------------------------------------------------------------------------------------


SENDER = "ann@client.test"


def letter(number: int, *recipients: str) -> bytes:
    """A message with the line ends of the wire, and no line that begins with a dot."""
    headers = (
        f"Message-ID: <{number}@client.test>",
        f"From: {SENDER}",
        f"To: {', '.join(recipients)}",
        f"Subject: Letter {number}",
    )
    return "\r\n".join((*headers, "", f"This is letter {number}.", "")).encode()


def said(reply: tuple[int, bytes], *, good: int = 2) -> None:
    """Raises SMTPResponseException for a reply of another class."""
    if reply[0] // 100 != good:
        raise smtplib.SMTPResponseException(*reply)


class Line(smtplib.SMTP):
    """A connection to a mail server. It does not fall back from EHLO to HELO."""

    def __init__(self, fake: Any) -> None:
        super().__init__(fake.host, fake.port, timeout=PATIENCE, local_hostname="client.test")
        try:
            said(self.ehlo())
        except OSError:
            self.close()
            raise

    def leave(self) -> None:
        """What the server says to a QUIT changes nothing."""
        with contextlib.suppress(OSError):
            self.docmd("QUIT")
        self.close()

    def begin(self) -> None:
        said(self.mail(SENDER))

    def content(self, message: bytes) -> None:
        said(self.docmd("DATA"), good=3)
        self.send(message + b".\r\n")
        said(self.getreply())


@contextlib.contextmanager
def line(fake: Any) -> Iterator[Line]:
    connection = Line(fake)
    try:
        yield connection
    finally:
        connection.leave()


class DeferredError(OSError):
    """The server took no recipient, for now."""


def deliver(connection: Line, message: bytes, recipients: list[str]) -> None:
    """One transaction; it removes the recipients that have the message. Raises OSError if the server did not take it."""
    connection.begin()
    taken = []
    for one in recipients:
        code, text = connection.rcpt(one)
        if code == 421:
            raise smtplib.SMTPResponseException(code, text)
        if code // 100 == 2:
            taken.append(one)
    if not taken:
        raise DeferredError("no recipient was taken")
    connection.content(message)
    recipients[:] = [one for one in recipients if one not in taken]


def sends_each_message_on_its_own(fake: Any, messages: int = 2) -> None:
    """A connection for each message; it tries again what was deferred, recipient by recipient."""
    for number in range(1, messages + 1):
        left = ["bob@site.test", "carol@other.test"]
        message = letter(number, *left)
        for _ in tries():
            with contextlib.suppress(*TROUBLE), line(fake) as connection:
                deliver(connection, message, left)
            if not left:
                break


def sends_a_batch_on_one_connection(fake: Any) -> None:
    """Two messages, on a connection that it keeps as long as the server does."""
    waiting = [(letter(number, "bob@site.test"), ["bob@site.test"]) for number in (1, 2)]
    for _ in tries():
        with contextlib.suppress(*TROUBLE), line(fake) as connection:
            while waiting:
                deliver(connection, *waiting[0])
                del waiting[0]
        if not waiting:
            break


def gives_up_at_rcpt(fake: Any) -> None:
    message = letter(1, "bob@site.test")
    for _ in tries():
        with contextlib.suppress(*TROUBLE), line(fake) as connection:
            connection.begin()
            if connection.rcpt("bob@site.test")[0] == 421:
                return
            connection.content(message)
            return


def doubles_after_the_dot(fake: Any) -> None:
    """As `with smtplib.SMTP(…)` does, it raises for a 421 to QUIT; it then sends the message again."""
    message = letter(1, "bob@site.test")
    for _ in tries():
        with contextlib.suppress(*TROUBLE), Line(fake) as connection:
            deliver(connection, message, ["bob@site.test"])
            said(connection.docmd("QUIT"))
            return


def forgets_recipients(fake: Any) -> None:
    """It strikes a recipient off when the server has taken the address, and not when it has the message."""
    left = ["bob@site.test", "carol@other.test"]
    message = letter(1, *left)
    for _ in tries():
        with contextlib.suppress(*TROUBLE), line(fake) as connection:
            connection.begin()
            while left:
                said(connection.rcpt(left[0]))
                del left[0]
            connection.content(message)
        if not left:
            return


def loses_the_second_mail(fake: Any) -> None:
    """It takes the next message from its queue before it knows that the connection is still good."""
    waiting = [letter(1, "bob@site.test"), letter(2, "bob@site.test")]
    for _ in tries():
        with contextlib.suppress(*TROUBLE), line(fake) as connection:
            deliver(connection, waiting[0], ["bob@site.test"])
            del waiting[0]
            while waiting:
                deliver(connection, waiting.pop(0), ["bob@site.test"])
        if not waiting:
            return


def falls_back_to_clear_text(fake: Any) -> None:
    message = letter(1, "bob@site.test")
    trusted = ssl.create_default_context(cafile=fake.ca_file)
    encrypts = True
    for _ in tries():
        with contextlib.suppress(*TROUBLE), line(fake) as connection:
            if encrypts:
                code, text = connection.docmd("STARTTLS")
                encrypts = code != 421
                said((code, text))
                connection.sock = trusted.wrap_socket(connection.sock, server_hostname=fake.host)
                connection.file = None
                said(connection.ehlo())
            deliver(connection, message, ["bob@site.test"])
            return


# ---- FTP -------------------------------------------------------------------------------------------

REPORT = bytes(range(256)) * 40
FILES = {"report.bin": REPORT}
BLOCK = 8192


@contextlib.contextmanager
def session(fake: Any) -> Iterator[ftplib.FTP]:
    connection = ftplib.FTP(timeout=PATIENCE)
    try:
        connection.connect(fake.host, fake.port)
        connection.login("ann", "x")
        connection.voidcmd("TYPE I")
        yield connection
        with contextlib.suppress(*TROUBLE):
            connection.quit()
    finally:
        connection.close()


def size_of(connection: ftplib.FTP, name: str) -> int | None:
    """The size of a file on the server; None if there is no such file. Raises ftplib.Error if the server does not say."""
    try:
        return connection.size(name)
    except ftplib.error_perm:
        return None


def fetch(connection: ftplib.FTP, name: str, into: io.BytesIO) -> None:
    """Fetch what is missing of a file. Raises an error if the server does not confirm that this was all."""
    connection.retrbinary(f"RETR {name}", into.write, BLOCK, rest=into.tell() or None)


def downloads(fake: Any) -> None:
    """It asks for the rest of a file until it has as many bytes as the server."""
    content = io.BytesIO()
    for _ in tries():
        with contextlib.suppress(*TROUBLE), session(fake) as connection:
            wanted = size_of(connection, "report.bin")
            fetch(connection, "report.bin", content)
            if content.tell() == wanted:
                break
    assert content.getvalue() == REPORT


def uploads(fake: Any) -> None:
    """It uploads under another name, goes on where the server's file ends, and renames the file when it is whole."""
    for number in tries():
        with contextlib.suppress(*TROUBLE), session(fake) as connection:
            if number and size_of(connection, "sent.bin") == len(REPORT):
                return
            there = (size_of(connection, "sent.part") or 0) if number else 0
            if there < len(REPORT):
                connection.storbinary("STOR sent.part", io.BytesIO(REPORT[there:]), BLOCK, rest=there or None)
            connection.rename("sent.part", "sent.bin")
            return


def takes_a_cut_download_for_whole(fake: Any) -> None:
    """The end of the data connection is the end of the file to it, whatever the server says then."""
    for _ in tries():
        with contextlib.suppress(*TROUBLE), session(fake) as connection:
            with connection.transfercmd("RETR report.bin") as data:
                while data.recv(BLOCK):
                    pass
            return


def appends_twice(fake: Any) -> None:
    """It resumes an upload, but from its own beginning: it appends the whole file to what the server has."""
    verb = "STOR"
    for _ in tries():
        with contextlib.suppress(*TROUBLE), session(fake) as connection:
            if verb == "STOR" and size_of(connection, "sent.bin"):
                verb = "APPE"
            connection.storbinary(f"{verb} sent.bin", io.BytesIO(REPORT), BLOCK)
            return


# ---- HTTP ------------------------------------------------------------------------------------------

ORDER = b'{"order": 1}'


def web(fake: Any) -> http.client.HTTPConnection:
    if fake.tls == "none":
        return http.client.HTTPConnection(fake.host, fake.port, timeout=PATIENCE)
    trusted = ssl.create_default_context(cafile=fake.ca_file)
    return http.client.HTTPSConnection(fake.host, fake.port, timeout=PATIENCE, context=trusted)


def asked(
    connection: http.client.HTTPConnection,
    method: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> http.client.HTTPResponse:
    """The response to a request, read to its end. Raises HTTPException or OSError."""
    connection.request(method, "/orders/1", body, dict(headers or {}))
    response = connection.getresponse()
    response.read()
    return response


def persists(fake: Any, method: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> None:
    """Repeat a request, on a new connection each time, until there is a good answer. Raises FailedError for a final one."""
    for _ in tries():
        with contextlib.suppress(*TROUBLE), contextlib.closing(web(fake)) as connection:
            status = asked(connection, method, body, headers).status
            if status < 400:
                return
            if status not in TRANSIENT:
                raise FailedError(f"{method} was answered {status}")


def gets_and_puts(fake: Any) -> None:
    persists(fake, "GET")
    persists(fake, "PUT", ORDER)


def posts_with_a_key(fake: Any) -> None:
    """The server recognises a copy by its key (draft-ietf-httpapi-idempotency-key-header)."""
    persists(fake, "POST", ORDER, {"Idempotency-Key": "7f1c"})


def posts_for_ever(fake: Any) -> None:
    """It repeats its request on the connection that was refused, for ever; here, a hundred times without a wait between them."""
    with contextlib.closing(web(fake)) as connection:
        for number in range(100):
            with contextlib.suppress(*TROUBLE):
                if asked(connection, "POST", ORDER).status < 400:
                    return
                continue
            connection.close()
            time.sleep(min(2.0**number, 300.0))
    raise FailedError("the POST was refused a hundred times")


# ---- all of them -----------------------------------------------------------------------------------

CLEAR = {"tls": "none"}

CLIENTS: dict[str, Planted] = {
    "gives-up-at-rcpt": Planted("smtp", gives_up_at_rcpt, harm="lost", fault="takes a 421 at RCPT for the end"),
    "doubles-after-the-dot": Planted(
        "smtp",
        doubles_after_the_dot,
        harm="duplicated",
        fault="sends again after a 421 that follows the 250 to the dot",
    ),
    "forgets-recipients": Planted(
        "smtp", forgets_recipients, items=2, harm="lost", fault="forgets the recipients that were taken before a 421"
    ),
    "loses-the-second-mail": Planted(
        "smtp",
        loses_the_second_mail,
        items=2,
        harm="lost",
        fault="drops the next mail of a kept connection if it is refused",
    ),
    "falls-back-to-clear-text": Planted(
        "smtp",
        falls_back_to_clear_text,
        {"tls": "starttls"},
        harm="smtp.no-downgrade",
        fault="goes on in clear text after a 421 to STARTTLS",
    ),
    "takes-a-cut-download-for-whole": Planted(
        "ftp",
        takes_a_cut_download_for_whole,
        {"files": FILES},
        harm="lost",
        fault="does not look at the end of a download",
    ),
    "appends-twice": Planted(
        "ftp", appends_twice, {"files": {}}, harm="duplicated", fault="appends what the server has already"
    ),
    "posts-for-ever": Planted(
        "http",
        posts_for_ever,
        CLEAR,
        harm="duplicated",
        fault="repeats a POST for ever, on the connection that was refused",
    ),
}

CAREFUL: dict[str, Client] = {
    "sends-each-message-on-its-own": Client(
        "smtp",
        sends_each_message_on_its_own,
        items=4,
        less=functools.partial(sends_each_message_on_its_own, messages=1),
    ),
    "sends-a-batch-on-one-connection": Client("smtp", sends_a_batch_on_one_connection, items=2),
    "downloads": Client("ftp", downloads, {"files": FILES}),
    "uploads": Client("ftp", uploads, {"files": {}}),
    "gets-and-puts": Client("http", gets_and_puts, CLEAR, items=2),
    "posts-with-a-key": Client("http", posts_with_a_key, CLEAR),
}
