"""What an invented rule may say: the values of each key, the plainest first.

A key that is not named here gets its values from its JSON Schema, so a new fault or condition needs nothing here to come up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from notnow.chaos.faults.fault import answers
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
        return _answers(protocol, moment, final)
    if key == "after" and moment == "idle":  # there it is the length of the silence
        return SPANS[:5]
    found = _PLAIN.get(key)
    return found if found is not None else of_schema(Rule.KEYS[key].kind.schema)


def _answers(protocol: Protocol, moment: str, final: bool) -> Values:
    known = answers(protocol.name)
    if protocol.moments[moment].unasked:
        return known.now[:1]  # a client must not take it for the answer to what it asks next
    return known.now + known.also.get(moment, ()) + (known.final if final else ())


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
