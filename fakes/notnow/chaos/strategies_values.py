"""What an invented rule may say: the values of each key, the plainest first.

A key that is not named here gets its values from its JSON Schema, so a new fault or condition needs nothing here to come up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from notnow.language import facts
from notnow.language.grammar import Rule
from notnow.language.values import Duration, Percent, Size
from notnow.protocols.fact import COMMAND, Choice
from notnow.protocols.fact import Size as SizeFact
from notnow.protocols.protocol import Protocol

Values = Sequence[Any]

SPANS = ("1s", "2s", "5s", "10s", "20s", "1m", "2m", "5m")
COUNTS = (1, 2, 3)
_OF_PATTERNS: Mapping[str, Values] = {
    Duration.schema["pattern"]: SPANS[:4],
    Percent.schema["pattern"]: ("50%", "20%", "80%"),
    Size.schema["anyOf"][1]["pattern"]: ("100B",),
}

# Refusals for now. A correct client comes back after each of them, so that it may get everything through in the end.
_SMTP = (
    "421 4.3.2 Service not available, closing transmission channel",  # RFC 5321 §4.2.2
    "451 4.3.0 Requested action aborted: error in processing",
    "450 4.2.1 Mailbox unavailable",
    "452 4.3.1 Insufficient system storage",
    ["421-4.3.2 Service not available,", "421 4.3.2 closing transmission channel"],
)
_FTP = (
    "421 Service not available, closing control connection.",  # RFC 959 §4.2
    "426 Connection closed; transfer aborted.",
    "450 Requested file action not taken.",
    "451 Requested action aborted: local error in processing.",
    "425 Can't open data connection.",
    ["421-Service not available,", "421 closing control connection."],
)
_STATUSES = (421, 503, 429, 502, 504, 500, 408, 425)
# Final refusals: no client can get through what they refuse.
_FINAL: Mapping[str, Values] = {
    "smtp": ("550 5.7.1 Requested action not taken", "554 5.3.0 Transaction failed"),
    "ftp": ("550 Requested action not taken.", "530 Not logged in."),
    "http": (403, 404, 410, 501),
}
# Two replies: what came is taken, and then the connection ends.
_AND_421: Mapping[str, Values] = {
    "message": (["250 2.0.0 Ok: queued", "421 4.3.2 Service not available, closing transmission channel"],),
    "complete": (["226 Transfer complete.", "421 Service not available, closing control connection."],),
}
CERTIFICATES: Mapping[str, Mapping[str, Any]] = {
    "other-name": {"names": "other.test"},
    "expired": {"expired": True},
    "untrusted": {"untrusted": True},
    "incomplete": {"incomplete": True},
}
_PLAIN: Mapping[str, Values] = {
    "headers": ({"retry-after": "1"}, {"connection": "close"}, {"retry-after": "10"}),
    "body": ("try again later", ""),
    "reset_stream": ("REFUSED_STREAM", "CANCEL", "INTERNAL_ERROR", "ENHANCE_YOUR_CALM", "NO_ERROR"),
    "goaway": (True, "ENHANCE_YOUR_CALM", {"last": "previous"}, {"last": 0}),
    "altsvc": ("clear", 'h2="{host}:{port}"; ma=60'),
    "origin": ("https://{host}:{port}",),
    "close": (True, "reset", "abrupt", False),
    "stall": (True,),
    "drip": ("1ms", "10ms", "100ms"),
    "keep": (True,),  # what is refused and yet kept; a server that accepts and does not keep deceives every client
    "after_bytes": (1, 100, 1000, 10_000, "1MB"),
    "certificate": tuple(CERTIFICATES),
    "alert": ("internal_error", "handshake_failure", "access_denied", "unrecognized_name", "protocol_version"),
    "over": COUNTS,
}
HEADERS = ("subject", "content-type", "accept")


def values(protocol: Protocol, moment: str, key: str, *, final: bool = False) -> Values:
    """The values that a key of a rule may have at a moment, the plainest first. `final`: refusals for good, too."""
    if key == protocol.answer:
        return _answers(protocol, moment) + (tuple(_FINAL.get(protocol.name, ())) if final else ())
    if key == "after" and moment == "idle":  # there it is the length of the silence
        return SPANS[:5]
    found = _PLAIN.get(key)
    return found if found is not None else of_schema(Rule.KEYS[key].kind.schema)


def _answers(protocol: Protocol, moment: str) -> tuple[Any, ...]:
    if protocol.answer == "status":
        return _STATUSES
    refusals = {"smtp": _SMTP, "ftp": _FTP}.get(protocol.name, _SMTP)
    if protocol.moments[moment].unasked:
        return tuple(refusals[:1])  # a client must not take it for the answer to what it asks next
    return (*refusals, *_AND_421.get(moment, ()))


def of_schema(schema: Mapping[str, Any]) -> Values:
    """A few values that a JSON Schema allows; none for a table or a text of which only its author knows the meaning."""
    match schema:
        case {"enum": choices}:
            return tuple(choices)
        case {"const": value}:
            return (value,)
        case {"anyOf": ways}:
            return tuple(value for way in ways for value in of_schema(way))
        case {"type": "boolean"}:
            return (True, False)
        case {"type": "integer", "minimum": least}:
            return tuple(range(max(least, 1), max(least, 1) + 3))
        case {"type": "string", "pattern": pattern}:
            return _OF_PATTERNS.get(pattern, ())
    return ()


# ---- where ---------------------------------------------------------------------------------------


def wanted(protocol: Protocol, moment: str, fact: str) -> Values:
    """The values that `where` may ask of a fact at a moment, the plainest first."""
    if fact == "header":
        return tuple({name: "*"} for name in HEADERS)
    found = facts.kind_at(protocol.name, fact, moment)
    absent = () if found.always else (facts.ABSENT,)
    if isinstance(found.kind, Choice):
        return (*found.kind.values, *absent)
    if isinstance(found.kind, SizeFact):
        return (">=1", ">=1KB", *absent)
    if found.kind is COMMAND and (verbs := tuple(protocol.by_verb())):
        return (facts.PRESENT, *verbs)
    return (facts.PRESENT, *absent)
