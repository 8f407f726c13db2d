"""The checks for malformed requests: pure functions of the head.

`in_http2` judges the field sections of HTTP/2 (RFC 9113 §8), `in_http1` the head of a request of HTTP/1.1 (RFC 9112
§3). Both return the mistake in a sentence, or None. h2 and h11 leave some checks to their users, and h2 ends the whole
connection for others, although RFC 9113 §8.1.1 wants the end of one stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

Fields = Sequence[tuple[bytes, bytes]]

NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110 §5.6.2; lower case alone in HTTP/2 (RFC 9113 §8.2.1)
METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §9.1
BAD_VALUE = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")  # RFC 9113 §8.2.1
PATH = re.compile(rb"/[^\0-\x20#\x7f]*")  # RFC 3986 §3.3, and the characters that browsers send unescaped
SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")  # RFC 3986 §3.1
# RFC 3986 §3.2.2, without the deprecated userinfo (RFC 9110 §4.2.4).
HOST = rb"(?:\[[0-9A-Fa-f:.]+\]|\[[vV][0-9A-Fa-f]+\.[\w.~!$&'()*+,;=:-]+\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
AUTHORITY = re.compile(HOST + rb"(?::[0-9]*)?")
TUNNEL = re.compile(HOST + rb":[0-9]{1,5}")  # the target of a CONNECT (RFC 9112 §3.2.3)
ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]+)([^#]*)")  # RFC 9112 §3.2.2
LENGTH = re.compile(rb"[0-9]{1,18}")  # RFC 9110 §8.6
OF_THE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})
PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
SHOWN = 60  # bytes of the client's text that a complaint repeats


def in_http2(fields: Fields, *, trailers: bool = False, ends: bool = False) -> str | None:
    """Why a field section of HTTP/2 is malformed (RFC 9113 §8.1.1); `ends`: END_STREAM came with it."""
    return next(_complaints(fields, trailers, ends), None)


def _complaints(fields: Fields, trailers: bool, ends: bool) -> Iterator[str]:
    yield from _characters(fields)
    yield from _order(fields)
    yield from _connection_fields(fields)
    if not trailers:
        yield from _pseudo(fields)
        yield from _authority(fields)
        yield from _length(fields, ends)
        return
    if found := [name for name, _ in fields if name.startswith(b":")]:
        yield f"trailers hold the pseudo-header field {_show(found[0])} (RFC 9113 §8.1)"
    if not ends:
        yield "trailers come without END_STREAM (RFC 9113 §8.1)"


def _characters(fields: Fields) -> Iterator[str]:
    """RFC 9113 §8.2.1."""
    for name, value in fields:
        if not NAME.fullmatch(name.removeprefix(b":")):
            yield f"the field name {_show(name)} holds what no name may hold, capitals among it (RFC 9113 §8.2.1)"
        if BAD_VALUE.search(value):
            yield (
                f"the value {_show(value)} of {_show(name)} holds NUL, CR or LF, or spaces around it (RFC 9113 §8.2.1)"
            )


def _order(fields: Fields) -> Iterator[str]:
    """RFC 9113 §8.3: known pseudo-header fields, each of them once, and before all other fields."""
    seen: set[bytes] = set()
    regular = False
    for name, _ in fields:
        regular = regular or not name.startswith(b":")
        if not name.startswith(b":"):
            continue
        if name not in PSEUDO:
            yield f"{_show(name)} is no pseudo-header field of a request (RFC 9113 §8.3)"
        if name in seen:
            yield f"the pseudo-header field {_show(name)} comes twice (RFC 9113 §8.3)"
        if regular:
            yield f"the pseudo-header field {_show(name)} comes behind other fields (RFC 9113 §8.3)"
        seen.add(name)


def _connection_fields(fields: Fields) -> Iterator[str]:
    """RFC 9113 §8.2.2."""
    for name, value in fields:
        if name in OF_THE_CONNECTION:
            yield f"{_show(name)} is about a connection of HTTP/1.1 (RFC 9113 §8.2.2)"
        if name == b"te" and value.lower() != b"trailers":
            yield f"te holds {_show(value)}; allowed: trailers (RFC 9113 §8.2.2)"


def _pseudo(fields: Fields) -> Iterator[str]:
    """RFC 9113 §8.3.1, and §8.5 for CONNECT."""
    found = dict(field for field in fields if field[0] in PSEUDO)
    tunnel = found.get(b":method") == b"CONNECT"
    for name in (b":method", b":authority") if tunnel else (b":method", b":scheme", b":path"):
        if name not in found:
            yield f"{_show(name)} is missing (RFC 9113 §{'8.5' if tunnel else '8.3.1'})"
    if tunnel:
        for name in (b":scheme", b":path"):
            if name in found:
                yield f"CONNECT comes with {_show(name)} (RFC 9113 §8.5)"
        if not TUNNEL.fullmatch(found.get(b":authority", b"")):
            yield f"CONNECT names {_show(found.get(b':authority', b''))}, no host and port (RFC 9110 §9.3.6)"
        return
    if not METHOD.fullmatch(found[b":method"]):
        yield f"the method {_show(found[b':method'])} is no token (RFC 9110 §9.1)"
    if not SCHEME.fullmatch(found[b":scheme"]):
        yield f"the scheme {_show(found[b':scheme'])} is none (RFC 3986 §3.1)"
    asterisk = found[b":method"] == b"OPTIONS" and found[b":path"] == b"*"
    if not asterisk and not PATH.fullmatch(found[b":path"]):
        yield f"the path {_show(found[b':path'])} does not begin with a slash, or holds spaces (RFC 9113 §8.3.1)"


def _authority(fields: Fields) -> Iterator[str]:
    """RFC 9113 §8.3.1. A Host that differs from :authority passes, although a server SHOULD refuse it: clients that
    override Host are among those to test, and :authority counts.
    """
    hosts = [value for name, value in fields if name == b"host"]
    named = [value for name, value in fields if name == b":authority"]
    if len(hosts) > 1:
        yield "host comes twice (RFC 9110 §7.2)"
    if not hosts and not named:
        yield "neither :authority nor host is there (RFC 9113 §8.3.1)"
    for value in (*named, *hosts):
        if not AUTHORITY.fullmatch(value):
            yield f"the authority {_show(value)} is no host with a port or without (RFC 9110 §7.2)"


def _length(fields: Fields, ends: bool) -> Iterator[str]:
    """RFC 9110 §8.6, and RFC 9113 §8.1.1 for a request that ends with its head."""
    lengths = {value for name, value in fields if name == b"content-length"}
    for value in lengths:
        if not LENGTH.fullmatch(value):
            yield f"content-length is {_show(value)}, no number of bytes (RFC 9110 §8.6)"
    if len(lengths) > 1:
        yield f"content-length has {len(lengths)} values (RFC 9110 §8.6)"
    if ends and any(int(value) for value in lengths):
        yield f"content-length is {_show(lengths.pop())}, and there is no body (RFC 9113 §8.1.1)"


# ---- HTTP/1.1 ------------------------------------------------------------------------------------


def in_http1(method: bytes, target: bytes, version: bytes, fields: Fields) -> tuple[int, str] | None:
    """The status for a malformed HTTP/1.1 request, and the reason; None for a well-formed one."""
    return next(_complaints1(method, target, version, fields), None)


def _complaints1(method: bytes, target: bytes, version: bytes, fields: Fields) -> Iterator[tuple[int, str]]:
    if not version.startswith(b"1."):
        yield 505, f"HTTP/{version.decode('ascii', 'replace')} is not spoken in this way (RFC 9110 §15.6.6)"
    if not _is_target(method, target):
        yield 400, f"the target {_show(target)} is none for {_show(method)} (RFC 9112 §3.2)"
    if version == b"1.0" and any(name == b"transfer-encoding" for name, _ in fields):
        yield 400, "HTTP/1.0 has no Transfer-Encoding: nobody knows where the body ends (RFC 9112 §6.1)"
    for name, value in fields:
        if name == b"host" and not AUTHORITY.fullmatch(value):
            yield 400, f"Host is {_show(value)}, no host with a port or without (RFC 9112 §3.2)"
        if name == b"expect" and value.lower() != b"100-continue":
            yield 417, f"Expect is {_show(value)}; allowed: 100-continue (RFC 9110 §10.1.1)"


def _is_target(method: bytes, target: bytes) -> bool:
    """True for one of the four forms of RFC 9112 §3.2 that the method allows."""
    if method == b"CONNECT":
        return TUNNEL.fullmatch(target) is not None
    if target == b"*":
        return method == b"OPTIONS"
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is not None:
        return AUTHORITY.fullmatch(absolute[1]) is not None and not absolute[1].startswith(b":")
    return PATH.fullmatch(target) is not None


def framed_twice(fields: Fields) -> bool:
    """True if a request gives its length in two ways.

    The fake answers it and closes the connection: an intermediary may have seen another length (RFC 9112 §6.1).
    """
    return {b"transfer-encoding", b"content-length"} <= {name for name, _ in fields}


def _show(said: bytes) -> str:
    text = repr(said[:SHOWN].decode("latin-1"))
    return text if len(said) <= SHOWN else f"{text}…"


def named(fields: Iterable[tuple[bytes, bytes]]) -> str:
    """A malformed request in a line: its method, authority and path, if it has them."""
    found = {name: value.decode("latin-1") for name, value in fields}
    authority = found.get(b":authority", found.get(b"host", ""))
    return f"{found.get(b':method', '')} {authority}{found.get(b':path', '')}".strip()
