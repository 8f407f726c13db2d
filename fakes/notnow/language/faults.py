"""The keys of a fault, and the values that each may hold."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema

from notnow.language import limits
from notnow.language.replies import Lines
from notnow.language.values import Duration, Size, Table, choice_of, names_of, one_or_more, refuse
from notnow.protocols.ftp import DataEnding

ALERTS = tuple(a.name.removeprefix("ALERT_DESCRIPTION_").lower() for a in ssl.AlertDescription)
H2_CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # RFC 9113 §7  # fmt: skip
GOES_ON = ("open", "ragged")  # values of `data` with which the data connection goes on
DATA_ENDINGS: tuple[str, ...] = get_args(DataEnding)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.1
HEADER_VALUE = re.compile(r"(?:[^\0-\x20\x7f](?:[^\0-\x08\x0a-\x1f\x7f]*[^\0-\x20\x7f])?)?")  # RFC 9110 §5.5


def _close(value: object) -> bool | str:
    if isinstance(value, (bool, str)) and value in (True, False, "reset", "abrupt"):
        return value
    raise refuse('true, false, "reset" or "abrupt"', value, ("reset", "abrupt"))


def _status(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 200 <= value <= 599:
        return value
    raise refuse("a final status, from 200 to 599, such as 503")


def _headers(value: object) -> tuple[tuple[str, str], ...]:
    """A table of header names; a value is a text, a number, or a list of these."""
    if not isinstance(value, Mapping):
        raise refuse('a table of headers, such as { retry-after = "120" }')
    found: list[tuple[str, str]] = []
    for name, given in value.items():
        for one in given if isinstance(given, (list, tuple)) else [given]:
            if not HEADER_NAME.fullmatch(name) or isinstance(one, bool) or not isinstance(one, (str, int)):
                raise refuse(f"header names with a text, a number, or a list of these, not {name} = {one!r}")
            if not HEADER_VALUE.fullmatch(str(one)):
                raise refuse(
                    f"header values without line ends and other control characters, and without spaces around them, not {one!r}"
                )
            if fault := limits.field_fault(name, str(one)):
                raise refuse(fault)
            found.append((name, str(one)))
    lengths = [one for name, one in found if name.lower() == "content-length"]
    if len(lengths) > 1:
        raise refuse(f"one content-length (RFC 9110 §8.6), not {', '.join(lengths)}")
    return tuple(found)


def _go_away(value: object) -> object:
    """true, the name of a code, or a table of `code` and `last`."""
    if value is True:
        return {}
    if isinstance(value, str):
        return {"code": value}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseModel):
        return value
    raise refuse('true, a code such as "ENHANCE_YOUR_CALM", or { code = …, last = … }')


def _last(value: object) -> object:
    if value in ("current", "previous"):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limits.STREAM:
        return value
    allowed = f'"current", "previous", or the number of a stream, from 0 to {limits.STREAM} (RFC 9113 §5.1.1)'
    raise refuse(allowed, value, ("current", "previous"))


def _origins(value: object) -> tuple[str, ...]:
    origins = names_of()(value)
    if fault := limits.origin_fault(origins):
        raise refuse(fault)
    return origins


def _altsvc(value: object) -> object:
    if isinstance(value, str) and (fault := limits.altsvc_fault(value)):
        raise refuse(fault)
    return value


Ending = Annotated[
    bool | str,
    BeforeValidator(_close),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["reset", "abrupt"]}]}),
]
Origins = Annotated[
    tuple[str, ...], BeforeValidator(_origins), one_or_more({"type": "string", "pattern": "^https?://"})
]
Alternative = Annotated[
    str, BeforeValidator(_altsvc), WithJsonSchema({"type": "string", "pattern": "^(?:[!-~](?:[ -~]*[!-~])?)?$"})
]
Status = Annotated[int, BeforeValidator(_status), WithJsonSchema({"type": "integer", "minimum": 200, "maximum": 599})]
Headers = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_headers), WithJsonSchema({"type": "object"})]
AlertName = Annotated[str, BeforeValidator(choice_of(*ALERTS)), WithJsonSchema({"enum": list(ALERTS)})]
Code = Annotated[str, BeforeValidator(choice_of(*H2_CODES)), WithJsonSchema({"enum": list(H2_CODES)})]


_LAST = {"anyOf": [{"enum": ["current", "previous"]}, {"type": "integer", "minimum": 0, "maximum": limits.STREAM}]}


class Farewell(Table):
    """A GOAWAY (RFC 9113 §6.8)."""

    code: Code = Field(default="NO_ERROR", description="Its error code.")
    last: Annotated[
        int | Literal["current", "previous"],
        BeforeValidator(_last),
        WithJsonSchema(_LAST),
    ] = Field(default="current", description="The last stream that the server handles.")


_FAREWELL = {
    "type": "object",
    "properties": {"code": {"enum": list(H2_CODES)}, "last": _LAST},
    "additionalProperties": False,
}
GoAway = Annotated[
    Farewell,
    BeforeValidator(_go_away),
    WithJsonSchema({"anyOf": [{"const": True}, {"enum": list(H2_CODES)}, _FAREWELL]}),
]


class Mark(Enum):
    """A property of a key of a fault that other modules read; a field has its marks in its annotation."""

    SPOKEN = "Clients read its text, so live placeholders may stand in it."
    ACTS = "It does something by itself, so `after_bytes` may put it off."


SPOKEN, ACTS = Mark.SPOKEN, Mark.ACTS


class Fault(Table):
    """What the fake does instead of behaving, or along with it."""

    reply: Annotated[Lines | None, SPOKEN, ACTS] = Field(
        default=None,
        description="Reply lines, exactly as sent; a list may hold two replies. A 2yz or 3yz takes effect, any other does not. A 1yz (FTP only) is sent at once, and the rest after `delay`.",
    )
    status: Annotated[Status | None, ACTS] = Field(
        default=None,
        description="Answer an HTTP request with this status. A 2xx or 3xx takes effect (the app is asked), any other does not.",
    )
    headers: Annotated[Headers | None, SPOKEN] = Field(
        default=None,
        description="Header fields of the HTTP response; they replace the app's fields with the same names.",
    )
    body: Annotated[str | None, SPOKEN] = Field(default=None, description="The content of the HTTP response.")
    reset_stream: Annotated[Code | None, ACTS] = Field(
        default=None, description="End the HTTP/2 stream with RST_STREAM and this code; HTTP/1.1 loses its connection."
    )
    goaway: Annotated[GoAway | None, ACTS] = Field(
        default=None,
        description='Send GOAWAY: true, a code, or { code = …, last = "current" | "previous" | N }. Streams above the last are not served, and when the others are through the connection closes, unless `close = false`. It goes at once, whatever the `delay` of the answer, and never raises the last of an earlier one: 2147483647 announces a shutdown, a later GOAWAY has the real last.',
    )
    altsvc: Annotated[Alternative | None, SPOKEN, ACTS] = Field(
        default=None, description="Name an alternative service (RFC 7838): a frame on HTTP/2, a header on HTTP/1.1."
    )
    origin: Annotated[Origins | None, SPOKEN, ACTS] = Field(
        default=None, description="Send an ORIGIN frame (RFC 8336) with these origins. HTTP/2 only."
    )
    close: Annotated[Ending | None, ACTS] = Field(
        default=None,
        description='End the connection: true (after the reply has been seen), "reset" (RST), "abrupt" (at once), false (stay open). A 421 closes unless told otherwise.',
    )
    stall: Annotated[bool | None, ACTS] = Field(default=None, description="Never answer, and keep the connection open.")
    delay: Duration | None = Field(default=None, description="Wait this long before the answer.")
    drip: Duration | None = Field(
        default=None, description="Send the answer byte by byte, with this pause between two bytes."
    )
    keep: bool | None = Field(
        default=None, description="Whether the command takes effect (the message is stored), whatever the reply says."
    )
    after_bytes: Size | None = Field(
        default=None,
        description='Decided at the start, done when this many bytes of the body or transfer have passed (a number, or a size such as "1MB"); never, if it ends sooner.',
    )
    data: Annotated[Annotated[DataEnding, BeforeValidator(choice_of(*DATA_ENDINGS))] | None, ACTS] = Field(
        default=None,
        description='How an FTP data connection ends, before the reply: "fin" (closed), "reset" (RST), "drain" (what still comes is read and dropped). Or how it goes on: "ragged" (all of it passes, and TLS ends without a close_notify), "open" (with after_bytes: the reply is said then, and the rest passes). At PASV and EPSV, what the connection that they announce meets; there also "drop" (it never gets through).',
    )
    certificate: str | None = Field(default=None, description="Show this [certificate.NAME].")
    alert: Annotated[AlertName | None, ACTS] = Field(
        default=None, description="Refuse the TLS handshake with this alert (RFC 8446 §6.2)."
    )


FAULT_KEYS = tuple(Fault.model_fields)


def _marked(mark: Mark) -> tuple[str, ...]:
    return tuple(key for key, field in Fault.model_fields.items() if mark in field.metadata)


SPOKEN_KEYS, ACTING_KEYS = _marked(SPOKEN), _marked(ACTS)


def spoken(fault: Fault, key: str) -> tuple[str, ...]:
    """The texts in a key of a fault: the lines of a reply, the values of headers, a body."""
    value = getattr(fault, key)
    if isinstance(value, str):
        return (value,)
    items = value if isinstance(value, tuple) else ()
    return tuple(item[1] if isinstance(item, tuple) else item for item in items)


def texts(fault: Fault) -> tuple[str, ...]:
    """All texts that clients read."""
    return tuple(text for key in SPOKEN_KEYS for text in spoken(fault, key))
