"""What came through in part only: a client that has nothing left to send in its second try."""

from __future__ import annotations

import contextlib
import ftplib
import http.client
import io
import smtplib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from notnow.chaos import sweep

CONTENT = b"Message-ID: <1@x.test>\r\n\r\n" + b"hello\r\n" * 40
TROUBLE = (OSError, EOFError, ftplib.Error, smtplib.SMTPException, http.client.HTTPException)

Send = Callable[[Any, bytes], None]


def again(work: Callable[[], None]) -> None:
    """A second try, at once; what goes wrong then is raised."""
    with contextlib.suppress(*TROUBLE):
        work()
        return
    work()


def mail(fake: Any, content: bytes) -> None:
    with smtplib.SMTP(fake.host, fake.port, local_hostname="client.test") as connection:
        connection.sendmail("a@x.test", ["b@x.test"], content)


def store(fake: Any, content: bytes) -> None:
    with ftplib.FTP(timeout=5) as connection:
        connection.connect(fake.host, fake.port)
        connection.login("ann", "x")
        connection.storbinary("STOR report.bin", io.BytesIO(content))


def request(fake: Any, content: bytes, method: str) -> None:
    with contextlib.closing(http.client.HTTPConnection(fake.host, fake.port, timeout=5)) as connection:
        connection.request(method, "/report", content, {"Idempotency-Key": "7f1c"})
        if connection.getresponse().status >= 400:
            raise http.client.HTTPException


def put(fake: Any, content: bytes) -> None:
    request(fake, content, "PUT")


def post(fake: Any, content: bytes) -> None:
    request(fake, content, "POST")


SENDERS = {
    "smtp": (mail, {}, "message#1:421", "b@x.test"),
    "ftp": (store, {"files": {}}, "stor#1:late-451", "/report.bin"),
    "http": (put, {"tls": "none"}, "request#1:503", "PUT /report"),
    "post": (post, {"tls": "none"}, "request#1:503", "POST /report"),
}


@pytest.mark.parametrize("name", SENDERS)
def test_an_empty_second_try_has_lost_the_item(name: str, fast_forward: object) -> None:
    send, options, cell, to = SENDERS[name]

    def reads_once(fake: Any) -> None:
        source = io.BytesIO(CONTENT)
        again(lambda: send(fake, source.read()))

    (one,) = sweep("http" if name == "post" else name, reads_once, cells=[cell], **options).outcomes
    assert one.word == "lost"
    assert one.bad
    assert one.sentence.startswith("lost: only ")
    assert one.sentence.endswith(f" bytes came through for {to}; the client exited with 0")


def test_one_missing_byte_counts_where_the_content_is_always_the_same(fast_forward: object) -> None:
    def drops_a_byte(fake: Any) -> None:
        left = [CONTENT, CONTENT[:-1]]
        again(lambda: put(fake, left.pop(0)))

    (one,) = sweep("http", drops_a_byte, cells=["request#1:503"], tls="none").outcomes
    assert one.sentence == "lost: only 305 of 306 bytes came through for PUT /report; the client exited with 0"


def test_a_client_that_reports_it_has_lost_nothing_silently(fast_forward: object) -> None:
    def reports(fake: Any) -> None:
        source = io.BytesIO(CONTENT)
        with contextlib.suppress(*TROUBLE):
            put(fake, source.read())
            return
        put(fake, source.read())
        raise RuntimeError

    (one,) = sweep("http", reports, cells=["request#1:503"], tls="none").outcomes
    assert (one.word, one.bad) == ("reported", False)


def contents(*given: bytes) -> Iterator[bytes]:
    """Each of these in turn, and the last one for ever."""
    yield from given
    while True:
        yield given[-1]


@pytest.mark.parametrize(
    "given",
    [
        (b"at 10.25", b"at 10.3", b"at 9", b"at 9"),  # another size in each run
        (b"1 at 10.25", b"2 at 10.25", b"3 at 10.3", b"4 at 10.3"),  # the content differs, and few bytes are missing
        (b"at noon, on Monday", b"at noon, on Monday", b"", b""),  # the third healthy run shows that it changes
    ],
)
def test_content_that_differs_from_run_to_run_proves_nothing(given: tuple[bytes, ...], fast_forward: object) -> None:
    source = contents(*given)

    def puts(fake: Any) -> None:
        content = next(source)  # one for each run
        again(lambda: put(fake, content))

    (one,) = sweep("http", puts, cells=["request#1:503"], tls="none").outcomes
    assert one.word == "delivered"


def test_an_empty_copy_of_a_message_that_was_kept_loses_nothing(fast_forward: object) -> None:
    def reads_once(fake: Any) -> None:
        source = io.BytesIO(CONTENT)
        again(lambda: mail(fake, source.read()))

    (one,) = sweep("smtp", reads_once, cells=["message#1:kept-421"]).outcomes
    assert one.word == "delivered"


def test_a_file_that_is_completed_later_is_whole(fast_forward: object) -> None:
    def resumes(fake: Any) -> None:
        with ftplib.FTP(timeout=5) as connection:
            connection.connect(fake.host, fake.port)
            connection.login("ann", "x")
            try:
                connection.storbinary("STOR report.bin", io.BytesIO(CONTENT))
            except ftplib.Error:
                connection.storbinary("APPE report.bin", io.BytesIO(CONTENT[len(CONTENT) // 2 :]))

    (one,) = sweep("ftp", resumes, cells=["stor#1:cut"], files={}).outcomes
    assert one.word == "delivered"
