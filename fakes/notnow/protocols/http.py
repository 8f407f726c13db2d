"""HTTP (RFC 9110), over HTTP/2 and HTTP/1.1."""

from __future__ import annotations

import re

from msgspec.structs import replace

from notnow.protocols.fact import (
    COMMAND,
    CONNECTION,
    Choice,
    Fact,
    Glob,
    Size,
    ValueNeverHeldError,
    before_wildcard,
    host,
)
from notnow.protocols.moment import EVERYWHERE, Moment
from notnow.protocols.protocol import Protocol, Sample, Words

_FRAMES = frozenset({"goaway", "altsvc", "origin"})
_ANSWER = (
    frozenset({"status", "headers", "body", "delay", "drip", "stall", "close", "reset_stream", "after_bytes"}) | _FRAMES
)
_REQUEST = frozenset({"command", "method", "authority", "path", "query", "header", "size", "misdirected"})

_MOMENTS = {
    **EVERYWHERE,
    "connect": replace(
        EVERYWHERE["connect"],
        doc="A connection is accepted; a status answers every request on it, and then it closes.",
        faults=frozenset({"status", "headers", "body", "delay", "stall", "close"}),
        final=True,
    ),
    "request": Moment(
        "The head of a request is in.",
        faults=_ANSWER | {"keep"},
        facts=_REQUEST,
        within=frozenset({"any"}),
        lasts=True,
        attempt=True,
        anywhere=True,
    ),
    "response": Moment("The app has an answer, and none of it has left.", faults=_ANSWER, facts=_REQUEST),
    "any": replace(EVERYWHERE["any"], doc="Every request.", faults=_ANSWER | {"keep"}, facts=_REQUEST),
    "enter": replace(EVERYWHERE["enter"], faults=frozenset({"close", "delay", "reset_stream"}) | _FRAMES),
    "error": replace(
        EVERYWHERE["error"],
        doc="A 4xx or 5xx has just left; what the rule says comes in addition.",
        faults=frozenset({"close", "delay"}) | _FRAMES,
    ),
    "idle": replace(
        EVERYWHERE["idle"],
        faults=frozenset({"close", "delay"}) | _FRAMES,
        facts=frozenset({"command", "method", "path", "query"}),
    ),
}


def _target(wanted: str) -> ValueNeverHeldError | None:
    """The path of a request target (RFC 9112 §3.2); that of a CONNECT is empty."""
    allowed = 'a path such as "/api/users", or a glob of one ("/api/*"); host and query are facts of their own'
    head, name = before_wildcard(wanted), re.match(r"https?://[^/]*(/.*)?$", wanted)
    if name:
        return ValueNeverHeldError(allowed, name[1] or "/")
    if "#" in wanted:
        return ValueNeverHeldError(f"{allowed}; no client sends what comes after '#'", wanted.partition("#")[0] or None)
    if head and not head.startswith("/"):
        return ValueNeverHeldError(allowed, "/" + wanted)
    return None


def _target_doubt(wanted: str) -> str | None:
    if "?" in _without_classes(wanted):
        path, _, query = wanted.partition("?")
        return (
            f"'?' stands for any one character here, and the path is told without its query; "
            f'for the query: where = {{ path = "{path}", query = "{query or "*"}" }}'
        )
    if not wanted.isascii() or " " in wanted:
        return "clients send spaces and letters beyond ASCII percent-encoded (%20), and the path is told as it was sent"
    return None


def _without_classes(wanted: str) -> str:
    """A glob without its classes: `[?]` means the character itself."""
    return re.sub(r"\[[^\]]+\]", "", wanted)


def _query_doubt(wanted: str) -> str | None:
    if wanted.startswith("?"):
        return f"the query is told without the '?' before it, and '?' stands for any one character: {wanted[1:]!r}"
    return None


_FACTS = {
    **CONNECTION,
    "command": Fact("The method.", COMMAND),
    "method": Fact("The method.", COMMAND),
    "authority": Fact(
        "The host of `:authority` or Host, without its port.",
        Glob('a host without its port ("a.test") or a glob of one', host),
    ),
    "path": Fact(
        "The path of the request target, without its query.",
        Glob('a path ("/api/users") or a glob of one ("/api/*")', _target, _target_doubt),
    ),
    "query": Fact(
        "The part of the request target after the `?`.",
        Glob('a query without its "?" ("page=2") or a glob of one ("*page=*")', doubt=_query_doubt),
    ),
    "header": Fact("A header field of the request: `header.accept`."),
    "size": Fact("The value of Content-Length.", Size()),
    "misdirected": Fact(
        "Why the request is on the wrong connection (RFC 9110 §7.4).",
        Choice(("sni", "certificate", True), '"sni", "certificate", true (either, or no SNI)'),
    ),
}

PROTOCOL = Protocol(
    name="http",
    fake="notnow.servers.http.FakeHTTP",
    rules="notnow.conduct.rules.http",
    ledger="notnow.conduct.reading.http.requests",
    faults="notnow.chaos.faults.http",
    moments=_MOMENTS,
    facts=_FACTS,
    also_counted=("malformed", "initial"),  # a malformed request over HTTP/2, and a QUIC connection that is tried
    not_commands=frozenset({"malformed", "initial"}),
    tls_modes=("none", "implicit"),
    server_keys=frozenset({"max_streams", "h3"}),
    expect_keys=frozenset({"sni_matches_authority", "not_coalesced", "retry_after_honoured", "body_replayed"}),
    aliases=("https", "h2", "http2"),
    multiplexed=True,
    visit=("request", "response"),
    work="request",
    words=Words(
        item="request",
        unfinished="request",
        done="carried out",
        nothing="nothing refused",
        delivered="It gets a good answer to every request in the end; one that is not idempotent is carried out exactly {times}.",
        no_duplicates="It does not repeat a request that the server has carried out, unless it is idempotent.",
    ),
    samples=(Sample("curl", "curl {url}/", {"none": "", "implicit": " --cacert {ca}"}),),
)
