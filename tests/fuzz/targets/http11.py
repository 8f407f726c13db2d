"""What an HTTP/1.1 client says, the upgrade to HTTP/2 included."""

from __future__ import annotations

import re

from tests.fuzz.talking import Talk, rule, scenarios

from notnow import FakeHTTP

PLAYS = scenarios(
    "http",
    rule("request", "status = 421"),
    rule("request", 'status = 503\nheaders = { retry-after = "5" }', every="2"),
    rule("request", 'close = "reset"', nth="2") + rule("response", 'delay = "5s"'),
    rule("connect", "status = 429"),
    rule("response", 'drip = "1ms"') + rule("error", "close = true"),
)
HEAD = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [^\0\r\n]*\r\n((?:[!-9;-~]+: ?[^\0\r\n]*\r\n)*)\r\n")
SWITCHED = b"\r\nupgrade: h2c\r\n"


def one(data: bytes) -> None:
    if len(data) < 2:
        return
    talk = Talk(data, PLAYS, FakeHTTP, tls="none")
    wire = talk.run()
    if not data[2:].startswith(b"PRI * HTTP/2"):
        _check(bytes(wire.heard), [x.http.method for x in talk.fake.journal if x.http is not None])


def _check(heard: bytes, methods: list[str]) -> None:
    """All that was heard are answers, the last of which may be cut short."""
    at = answers = 0
    while at < len(heard):
        head = HEAD.match(heard, at)
        if head is None:
            assert b"\r\n\r\n" not in heard[at:], f"no answer: {heard[at : at + 200]!r}"
            return
        at = head.end()
        fields = dict(line.lower().split(b":", 1) for line in head[2].splitlines())
        if head[1] == b"101":
            return
        if head[1][:1] == b"1":
            continue
        method = methods[answers] if answers < len(methods) else "GET"
        answers += 1
        at += _length(fields, heard, at) if method != "HEAD" and head[1] not in (b"204", b"304") else 0


def _length(fields: dict[bytes, bytes], heard: bytes, at: int) -> int:
    """How many bytes the body takes."""
    if fields.get(b"transfer-encoding", b"").strip() == b"chunked":
        end = heard.find(b"0\r\n\r\n", at)
        return end + 5 - at if end >= 0 else len(heard) - at
    return int(fields[b"content-length"]) if b"content-length" in fields else len(heard) - at
