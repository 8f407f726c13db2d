"""What a client of a fake says is hostile text: no format of the control API lets it act on a terminal, a page or a parser."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_api import API, running
from notnow.control import events
from smtp_client import Raw

PIECES = [
    b"\x00", b"\x1b[2J", b"\x1b]8;;http://evil.test\x07", b"\x9b31m", b"\x7f", b"\r", b"\x0b", b"\x85",
    "\u202e".encode(), "\u2066".encode(), "\u2028".encode(), "\ufeff".encode(), "\ufffe".encode(), "\U000e0041".encode(),
    b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80",
    b"</script>", b"<evil>", b"<evil onload=evil()>", b"'\"><evil>", b"]]>", b"&evil;", b"<!--", b"{{ evil }}", b"{% evil %}",
    b"```", b"|", b"[evil](javascript:evil())", b"data: evil", b"id: 7", b"\\ud800", b"x",
]  # fmt: skip


@pytest.fixture(scope="module")
def one_api() -> Iterator[API]:
    with running(seed=7) as api:
        yield api


class Tags(HTMLParser):
    """The tags of a page, and the attributes with code in them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.code: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.code += [
            f"{n}={v}" for n, v in attrs if n.startswith("on") or (v or "").lstrip().startswith("javascript:")
        ]


def acts(text: str) -> set[str]:
    """The characters that a terminal or a reader's eye would follow: all but lines and tabs."""
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"}


def say(api: API, pieces: list[bytes]) -> None:
    said = b"".join(pieces)
    with Raw(api.fleet.get("mx").fake).hello() as raw:
        for line in (b"EHLO " + said, said, b"MAIL FROM:<a@client.test> " + said, b"VRFY " + said):
            raw.send(line.replace(b"\n", b"") + b"\r\n")
            raw.reply()
        raw.say("RSET")
        raw.deliver(b"Subject: " + said + b"\r\nMessage-ID: <" + said + b"@x>\r\n\r\n" + said + b"\r\n")
    api.fleet.get("mx").fake.settle()


@settings(
    max_examples=25,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12))
def test_no_format_passes_on_what_acts(one_api: API, pieces: list[bytes]) -> None:
    api = one_api
    api.clear()
    before = api.fleet.feed.last
    api.start(name="mx")
    say(api, pieces)
    for path in (
        "verdict",
        "verdict?journals=true",
        "timeline",
        "servers/mx/journal",
        "servers/mx/messages",
        "servers/mx/snapshot",
    ):
        answer = api.http.get(f"/v1/{path}")
        assert answer.is_success, answer.text
        assert answer.content.isascii()
        assert not acts(answer.text)
        json.loads(answer.content, parse_constant=lambda name: pytest.fail(name))
    told = events._text(api.fleet.feed.after(before, 10_000)[0], 0, 1)
    assert told.isascii()
    assert not acts(told)
    assert {line.partition(":")[0] for line in told.splitlines() if line} == {"id", "event", "data"}
    for kind in ("text", "markdown", "html", "junit"):
        text = api.http.get("/v1/verdict", params={"format": kind}).content.decode()
        assert not acts(text), (kind, acts(text))
        if kind == "junit":
            ET.fromstring(text)
    for page in (text for text in (api.get("/v1/verdict", format="html"), api.http.get("/").text)):
        tags = Tags(page)
        assert not acts(page)
        assert ("evil" in tags.names, tags.code) == (False, [])
