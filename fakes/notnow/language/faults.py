"""The keys of a fault, and the values that each may hold."""

from __future__ import annotations

import re
from enum import Enum
from typing import Literal, get_args

from notnow.language import limits
from notnow.language.replies import Lines
from notnow.language.tables import Kind, Table, key, read, refuse
from notnow.language.values import Duration, Flag, Size, Text, names_of, one_of, one_or_more
from notnow.protocols.ftp import DataEnding

ALERTS = (
    "close_notify", "unexpected_message", "bad_record_mac", "record_overflow", "decompression_failure", "handshake_failure",
    "bad_certificate", "unsupported_certificate", "certificate_revoked", "certificate_expired", "certificate_unknown",
    "illegal_parameter", "unknown_ca", "access_denied", "decode_error", "decrypt_error", "protocol_version",
    "insufficient_security", "internal_error", "user_cancelled", "no_renegotiation", "unsupported_extension",
    "certificate_unobtainable", "unrecognized_name", "bad_certificate_status_response", "bad_certificate_hash_value",
    "unknown_psk_identity",
)  # RFC 8446 §6, RFC 6066 §9, as `ssl.AlertDescription` names them  # fmt: skip
H2_CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # RFC 9113 §7  # fmt: skip
GOES_ON = ("open", "ragged")  # values of `data` with which the data connection goes on
DATA_ENDINGS: tuple[DataEnding, ...] = get_args(DataEnding)
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
    if not isinstance(value, dict):
        raise refuse('a table of headers, such as { retry-after = "120" }')
    found: list[tuple[str, str]] = []
    for name, given in value.items():
        for one in given if isinstance(given, (list, tuple)) else [given]:
            if not HEADER_NAME.fullmatch(name) or isinstance(one, bool) or not isinstance(one, (str, int)):
                raise refuse(f"header names with a text, a number, or a list of these, not {name} = {one!r:.80}")
            if not HEADER_VALUE.fullmatch(str(one)):
                raise refuse(
                    f"header values without line ends and other control characters, and without spaces around them, not {one!r:.80}"
                )
            if fault := limits.field_fault(name, str(one)):
                raise refuse(fault)
            found.append((name, str(one)))
    lengths = [one for name, one in found if name.lower() == "content-length"]
    if len(lengths) > 1:
        raise refuse(f"one content-length (RFC 9110 §8.6), not {', '.join(lengths)}")
    return tuple(found)


def _go_away(value: object) -> Farewell:
    """true, the name of a code, or a table of `code` and `last`."""
    if value is True:
        return Farewell()
    if isinstance(value, str):
        return read(Farewell, {"code": value})
    if isinstance(value, dict):
        return read(Farewell, value)
    raise refuse('true, a code such as "ENHANCE_YOUR_CALM", or { code = …, last = … }')


def _last(value: object) -> int | Literal["current", "previous"]:
    if value == "current" or value == "previous":
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


def _altsvc(value: object) -> str:
    text = Text.read(value)
    if fault := limits.altsvc_fault(text):
        raise refuse(fault)
    return text


Ending = Kind(_close, {"anyOf": [{"type": "boolean"}, {"enum": ["reset", "abrupt"]}]})
Origins = Kind(_origins, one_or_more({"type": "string", "pattern": "^https?://"}))
Alternative = Kind(_altsvc, {"type": "string", "pattern": "^(?:[!-~](?:[ -~]*[!-~])?)?$"})
Status = Kind(_status, {"type": "integer", "minimum": 200, "maximum": 599})
Headers = Kind(_headers, {"type": "object"})
AlertName = one_of(*ALERTS)
Code = one_of(*H2_CODES)
Last = Kind(
    _last, {"anyOf": [{"enum": ["current", "previous"]}, {"type": "integer", "minimum": 0, "maximum": limits.STREAM}]}
)


class Farewell(Table):
    """A GOAWAY (RFC 9113 §6.8)."""

    code: str = key(Code, about="Its error code.", default="NO_ERROR")
    last: int | Literal["current", "previous"] = key(
        Last, about="The last stream that the server handles.", default="current"
    )


_FAREWELL = {
    "type": "object",
    "properties": {"code": Code.schema, "last": Last.schema},
    "additionalProperties": False,
}
GoAway = Kind(_go_away, {"anyOf": [{"const": True}, Code.schema, _FAREWELL]})


class Mark(Enum):
    """A property of a key of a fault that other modules read; a key of `Fault` names its marks."""

    SPOKEN = "Clients read its text, so live placeholders may stand in it."
    ACTS = "It does something by itself, so `after_bytes` may put it off."


SPOKEN, ACTS = Mark.SPOKEN, Mark.ACTS


class Fault(Table):
    """What the fake does instead of behaving, or along with it."""

    reply: tuple[str, ...] | None = key(
        Lines,
        SPOKEN,
        ACTS,
        about="Reply lines, exactly as sent; a list may hold two replies. A 2yz or 3yz takes effect, any other does not. A 1yz (FTP only) is sent at once, and the rest after `delay`.",
    )
    status: int | None = key(
        Status,
        ACTS,
        about="Answer an HTTP request with this status. A 2xx or 3xx takes effect (the app is asked), any other does not.",
    )
    headers: tuple[tuple[str, str], ...] | None = key(
        Headers, SPOKEN, about="Header fields of the HTTP response; they replace the app's fields with the same names."
    )
    body: str | None = key(Text, SPOKEN, about="The content of the HTTP response.")
    reset_stream: str | None = key(
        Code, ACTS, about="End the HTTP/2 stream with RST_STREAM and this code; HTTP/1.1 loses its connection."
    )
    goaway: Farewell | None = key(
        GoAway,
        ACTS,
        about='Send GOAWAY: true, a code, or { code = …, last = "current" | "previous" | N }. Streams above the last are not served, and when the others are through the connection closes, unless `close = false`. It goes at once, whatever the `delay` of the answer, and never raises the last of an earlier one: 2147483647 announces a shutdown, a later GOAWAY has the real last.',
    )
    altsvc: str | None = key(
        Alternative,
        SPOKEN,
        ACTS,
        about="Name an alternative service (RFC 7838): a frame on HTTP/2, a header on HTTP/1.1.",
    )
    origin: tuple[str, ...] | None = key(
        Origins, SPOKEN, ACTS, about="Send an ORIGIN frame (RFC 8336) with these origins. HTTP/2 only."
    )
    close: bool | str | None = key(
        Ending,
        ACTS,
        about='End the connection: true (after the reply has been seen), "reset" (RST), "abrupt" (at once), false (stay open). A 421 closes unless told otherwise.',
    )
    stall: bool | None = key(Flag, ACTS, about="Never answer, and keep the connection open.")
    delay: float | None = key(Duration, about="Wait this long before the answer.")
    drip: float | None = key(Duration, about="Send the answer byte by byte, with this pause between two bytes.")
    keep: bool | None = key(
        Flag, about="Whether the command takes effect (the message is stored), whatever the reply says."
    )
    after_bytes: int | None = key(
        Size,
        about='Decided at the start, done when this many bytes of the body or transfer have passed (a number, or a size such as "1MB"); never, if it ends sooner.',
    )
    data: DataEnding | None = key(
        one_of(*DATA_ENDINGS),
        ACTS,
        about='How an FTP data connection ends, before the reply: "fin" (closed), "reset" (RST), "drain" (what still comes is read and dropped). Or how it goes on: "ragged" (all of it passes, and TLS ends without a close_notify), "open" (with after_bytes: the reply is said then, and the rest passes). At PASV and EPSV, what the connection that they announce meets; there also "drop" (it never gets through).',
    )
    certificate: str | None = key(Text, about="Show this [certificate.NAME].")
    alert: str | None = key(AlertName, ACTS, about="Refuse the TLS handshake with this alert (RFC 8446 §6.2).")


FAULT_KEYS = tuple(Fault.KEYS)


def _marked(mark: Mark) -> tuple[str, ...]:
    return tuple(name for name, found in Fault.KEYS.items() if mark in found.marks)


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
