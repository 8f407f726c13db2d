"""Each client that only the atlas has meets one scenario: it is there, is told of its job, and says what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from atlas import PROTOCOLS, Entry, play
from atlas_clients import FTP, HTTP, SMTP
from tables import Row

if TYPE_CHECKING:
    from clients import Client

MAIL = Row("smtp", "at-stage stage=mail", "none", "", {})
FILE = Row("ftp", "overload", "get", "", {})
POST = Row("http", "misdirected-post", "post", "", {})
WELL = Row("smtp", "healthy", "none", "", {})

# dma, which waits five minutes before it tries again, meets no fault here.
SAYS = [
    (MAIL, "nodemailer", "EENVELOPE 421", "reported"),
    (MAIL, "PHPMailer", "Exception 421", "reported"),
    (WELL, "dma", "sent", "delivered"),
    (FILE, "rclone", "exit 1", "reported"),
    (FILE, "basic-ftp", "FTPError 421", "reported"),
    (FILE, "axel", "exit 1", "reported"),
    (POST, "requests", "got 421", "reported"),
    (POST, "urllib3", "got 421", "reported"),
    (POST, "boto3", "got 421", "reported"),
    (POST, "openai", "got 421", "reported"),
    (POST, "got", "got 421", "reported"),
    (POST, "Java HttpClient", "got 421", "reported"),
    (POST, "wget", "exit 8", "reported"),
]


@pytest.mark.parametrize(
    ("row", "client", "said", "word"),
    [pytest.param(row, PROTOCOLS[row.protocol][name], said, word, id=name) for row, name, said, word in SAYS],
)
def test_says_what_came_of_its_job(row: Row, client: Client[Any], said: str, word: str) -> None:
    items = 2 if row.protocol == "smtp" and client.name != "dma" else 1
    played = play(Entry(row.protocol, client, items=items), row)
    assert (played.said, played.outcome) == (said, word)
    assert played.result.asked == items


def test_none_is_left_out() -> None:
    assert [(row.protocol, name) for row, name, _, _ in SAYS] == [
        (protocol, name) for protocol, found in (("smtp", SMTP), ("ftp", FTP), ("http", HTTP)) for name in found
    ]
