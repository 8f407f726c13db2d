"""The checks for malformed requests: pure functions of the head.

`in_http2` judges the field sections of HTTP/2 (RFC 9113 §8), `in_http1` the head of a request of HTTP/1.1 (RFC 9112
§3). Both return the mistake in a sentence, or None. h2 and h11 leave some checks to their users, and h2 ends the whole
connection for others, although RFC 9113 §8.1.1 wants the end of one stream.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

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
    for name, value in fields:
        if (why := _in_field(name, value)) is not None:
            return why
    return _order(fields) or (_in_trailers(fields, ends) if trailers else _in_head(fields, ends))


@lru_cache(maxsize=256)  # a client repeats most of its fields with every request
def _in_field(name: bytes, value: bytes) -> str | None:
    """RFC 9113 §8.2.1 and §8.2.2."""
    if not NAME.fullmatch(name.removeprefix(b":")):
        return f"the field name {_show(name)} holds what no name may hold, capitals among it (RFC 9113 §8.2.1)"
    if BAD_VALUE.search(value):
        return f"the value {_show(value)} of {_show(name)} holds NUL, CR or LF, or spaces around it (RFC 9113 §8.2.1)"
    if name in OF_THE_CONNECTION:
        return f"{_show(name)} is about a connection of HTTP/1.1 (RFC 9113 §8.2.2)"
    if name == b"te" and value.lower() != b"trailers":
        return f"te holds {_show(value)}; allowed: trailers (RFC 9113 §8.2.2)"
    return None


def _order(fields: Fields) -> str | None:
    """RFC 9113 §8.3: known pseudo-header fields, each of them once, and before all other fields."""
    seen: set[bytes] = set()
    regular = False
    for name, _ in fields:
        if not name.startswith(b":"):
            regular = True
        elif name not in PSEUDO:
            return f"{_show(name)} is no pseudo-header field of a request (RFC 9113 §8.3)"
        elif name in seen:
            return f"the pseudo-header field {_show(name)} comes twice (RFC 9113 §8.3)"
        elif regular:
            return f"the pseudo-header field {_show(name)} comes behind other fields (RFC 9113 §8.3)"
        else:
            seen.add(name)
    return None


def _in_trailers(fields: Fields, ends: bool) -> str | None:
    if found := [name for name, _ in fields if name.startswith(b":")]:
        return f"trailers hold the pseudo-header field {_show(found[0])} (RFC 9113 §8.1)"
    return None if ends else "trailers come without END_STREAM (RFC 9113 §8.1)"


def _in_head(fields: Fields, ends: bool) -> str | None:
    found = dict(fields)  # of a field that comes more than once, the last
    why = _pseudo(found) or _authority(fields, found)
    return _length(fields, ends) if why is None and b"content-length" in found else why


def _pseudo(found: Mapping[bytes, bytes]) -> str | None:
    """RFC 9113 §8.3.1, and §8.5 for CONNECT."""
    tunnel = found.get(b":method") == b"CONNECT"
    for name in (b":method", b":authority") if tunnel else (b":method", b":scheme", b":path"):
        if name not in found:
            return f"{_show(name)} is missing (RFC 9113 §{'8.5' if tunnel else '8.3.1'})"
    return _in_tunnel(found) if tunnel else _in_request(found[b":method"], found[b":scheme"], found[b":path"])


def _in_tunnel(found: Mapping[bytes, bytes]) -> str | None:
    for name in (b":scheme", b":path"):
        if name in found:
            return f"CONNECT comes with {_show(name)} (RFC 9113 §8.5)"
    if not TUNNEL.fullmatch(found[b":authority"]):
        return f"CONNECT names {_show(found[b':authority'])}, no host and port (RFC 9110 §9.3.6)"
    return None


def _in_request(method: bytes, scheme: bytes, path: bytes) -> str | None:
    if not METHOD.fullmatch(method):
        return f"the method {_show(method)} is no token (RFC 9110 §9.1)"
    if not SCHEME.fullmatch(scheme):
        return f"the scheme {_show(scheme)} is none (RFC 3986 §3.1)"
    if not PATH.fullmatch(path) and (method, path) != (b"OPTIONS", b"*"):
        return f"the path {_show(path)} does not begin with a slash, or holds spaces (RFC 9113 §8.3.1)"
    return None


def _authority(fields: Fields, found: Mapping[bytes, bytes]) -> str | None:
    """RFC 9113 §8.3.1. A Host that differs from :authority passes, although a server SHOULD refuse it: clients that
    override Host are among those to test, and :authority counts.
    """
    if b"host" in found and sum(name == b"host" for name, _ in fields) > 1:
        return "host comes twice (RFC 9110 §7.2)"
    named = [found[name] for name in (b":authority", b"host") if name in found]
    if not named:
        return "neither :authority nor host is there (RFC 9113 §8.3.1)"
    for value in named:
        if not AUTHORITY.fullmatch(value):
            return f"the authority {_show(value)} is no host with a port or without (RFC 9110 §7.2)"
    return None


def _length(fields: Fields, ends: bool) -> str | None:
    """RFC 9110 §8.6, and RFC 9113 §8.1.1 for a request that ends with its head."""
    lengths = {value for name, value in fields if name == b"content-length"}
    for value in lengths:
        if not LENGTH.fullmatch(value):
            return f"content-length is {_show(value)}, no number of bytes (RFC 9110 §8.6)"
    if len(lengths) > 1:
        return f"content-length has {len(lengths)} values (RFC 9110 §8.6)"
    if ends and any(int(value) for value in lengths):
        return f"content-length is {_show(lengths.pop())}, and there is no body (RFC 9113 §8.1.1)"
    return None


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
