"""The words of a scenario file and what each may hold: pydantic models, one for each table of the TOML.

Every field has its description here; the JSON Schema, the reference in the docs and the error messages
are printed from them. Checks that need more than one field are in `notnow.scenario`.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from notnow import units
from notnow.errors import nearest
from notnow.language import facts, limits
from notnow.language.moments import MOMENTS, PROTOCOLS, DataEnding
from notnow.units import DURATION_HELP, Span

ALERTS = tuple(a.name.removeprefix("ALERT_DESCRIPTION_").lower() for a in ssl.AlertDescription)
PER = ("server", "client", "connection", "user", "sender", "recipient", "host", "path")
SINCE = ("any", "command", "transfer", "connect")
TLS_MODES = {
    "smtp": ("none", "starttls", "implicit"),
    "ftp": ("none", "starttls", "implicit"),
    "http": ("none", "implicit"),
}
H2_CODES = (
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
)  # RFC 9113 §7  # fmt: skip
GOES_ON = ("open", "ragged")  # what `data` may say of a data connection that does not end
DATA_ENDINGS: tuple[str, ...] = get_args(DataEnding)
UDP = ("closed", "silent")  # what becomes of QUIC
SHAPES = ("constant", "linear", "exponential")  # of a back-off
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.1
HEADER_VALUE = re.compile(r"(?:[^\0-\x20\x7f](?:[^\0-\x08\x0a-\x1f\x7f]*[^\0-\x20\x7f])?)?")  # RFC 9110 §5.5
REPLY_LINE = re.compile(r"[1-5][0-9][0-9](?:[ -][^\r\n]*)?")
SHORTEST = 0.001  # seconds: less than this, over and over, would stop time


def refuse(allowed: str, value: object = None, choices: Iterable[str] = ()) -> PydanticCustomError:
    """The error of a value that is not allowed, with the choice that it was near."""
    known = list(choices)
    near = nearest(value, known) if isinstance(value, str) else None
    return PydanticCustomError("notnow", "{allowed}", {"allowed": allowed, "nearest": near, "choices": known})


def _duration(value: object) -> Span:
    span = units.parse_duration(value)
    if span is None:
        raise refuse(DURATION_HELP)
    return span


def _length(value: object) -> Span:
    span = units.parse_duration(value)
    if span is None or span < SHORTEST:
        raise refuse(f"{DURATION_HELP}, and at least 1ms")
    return span


def _percent(value: object) -> float:
    share = units.parse_percent(value)
    if share is None:
        raise refuse('a percentage from 0 to 100, such as "20%"')
    return share


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    size = units.parse_size(value)
    if size is None:
        raise refuse(units.SIZE_HELP)
    return size


def _amount(value: object) -> int | Span:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    span = units.parse_duration(value)
    if span is None or span < SHORTEST:
        raise refuse(f"a number of events (1 or more), or {DURATION_HELP}, and at least 1ms")
    return span


def _lines(value: object) -> tuple[str, ...]:
    lines: list[object] = list(value) if isinstance(value, (list, tuple)) else [value]
    if not lines:
        raise refuse("at least one reply line")
    code = ""  # of the multi-line reply that is under way (RFC 959 §4.2, RFC 5321 §4.2.1)
    for line in lines:
        code = _code_after(line, code)
    if code:
        raise refuse(f'a last line with a space after the code: "{code} …", not {lines[-1]!r}')
    return tuple(map(str, lines))


def _code_after(line: object, code: str) -> str:
    """The code of the multi-line reply that is under way after this line; "" where none is."""
    middle = code and isinstance(line, str) and not re.match(r"\d{3}", line)
    if middle and "\r" not in str(line) and "\n" not in str(line):
        return code
    if not isinstance(line, str) or not REPLY_LINE.fullmatch(line):
        raise refuse(
            f'reply lines such as "421 4.3.2 Closing" (three digits, then " " or "-", on one line), not {line!r}'
        )
    if code and line[:3] != code:
        raise refuse(
            f"the same code on every line of a reply: {line!r} goes on a reply that began with {code}; "
            "a middle line that begins with three digits has a space before them (RFC 959 §4.2)"
        )
    return line[:3] if line[3:4] == "-" else ""


def preliminary(lines: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """The 1yz replies with which reply lines begin (RFC 959 §4.2), and the rest of them; None where nothing follows."""
    lines = lines or ()
    size = next((i for i, line in enumerate(lines) if line[0] in "2345" and line[:3].isdecimal()), len(lines))
    if size and lines[0][0] != "1":
        size = 0
    return lines[:size], lines[size:] or None


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


def _choices(*words: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if value not in words:
            raise refuse(", ".join(words), value, words)
        return value

    return check


def _mapping(value: object) -> object:
    if not isinstance(value, Mapping):
        raise refuse("a table of facts")
    return dict(value)


Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": units.DURATION})]
Length = Annotated[float, BeforeValidator(_length), WithJsonSchema({"type": "string", "pattern": units.DURATION})]
Percent = Annotated[float, BeforeValidator(_percent), WithJsonSchema({"type": "string", "pattern": units.PERCENT})]
Amount = Annotated[
    int | Span,
    BeforeValidator(_amount),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": units.DURATION}]}),
]
Count = Annotated[int, Field(ge=1)]
Size = Annotated[
    int,
    BeforeValidator(_size),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": units.SIZE}]}),
]
Lines = Annotated[
    tuple[str, ...],
    BeforeValidator(_lines),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Ending = Annotated[
    bool | str,
    BeforeValidator(_close),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["reset", "abrupt"]}]}),
]


def _names(*choices: str) -> Callable[[object], tuple[str, ...]]:
    def check(value: object) -> tuple[str, ...]:
        names = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not names:
            raise refuse(f"at least one of {', '.join(choices)}" if choices else "at least one")
        for name in names:
            if not isinstance(name, str) or (choices and name not in choices):
                raise refuse(", ".join(choices) or "text, or a list of texts", name, choices)
        return names

    return check


def _one_or_more(items: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [items, {"type": "array", "items": items, "minItems": 1}]})


def _origins(value: object) -> tuple[str, ...]:
    origins = _names()(value)
    if fault := limits.origin_fault(origins):
        raise refuse(fault)
    return origins


def _altsvc(value: object) -> object:
    if isinstance(value, str) and (fault := limits.altsvc_fault(value)):
        raise refuse(fault)
    return value


def _certified(value: object) -> tuple[str, ...]:
    names = _names()(value)
    if len(names) > limits.NAMES:
        raise refuse(f"at most {limits.NAMES} names")
    for name in names:
        if not limits.is_certifiable(name):
            allowed = 'host names ("a.test", "*.a.test") and IP addresses that a certificate can carry'
            raise refuse(f"{allowed}, not {name!r:.80}", name, [_bare(name)])
    return names


def _bare(name: str) -> str:
    """The host that was probably meant, if a certificate can carry it: without scheme, path, port and mailbox."""
    host = re.sub(r"^\w+://|[/:].*$", "", name.rpartition("@")[2])
    return host if limits.is_certifiable(host) else ""


def _files(value: object) -> object:
    """Names and contents of files: text, or a size."""
    if not isinstance(value, Mapping):
        return value
    if found := next(limits.tree_faults(value), None):
        raise refuse(f"names that one tree of files can have; {found[1]}")
    for name, content in value.items():
        size = units.parse_size(content)
        if size is not None and size > limits.FILE:
            raise refuse(f"files of up to {limits.FILE // 1000**3}GB, not {name} = {content!r}")
    return value


def _users(value: object) -> object:
    for one in [text for pair in value.items() for text in pair] if isinstance(value, Mapping) else ():
        if isinstance(one, str) and re.search(r"[\0\r\n]", one):
            raise refuse(f"names and passwords on one line, which a client can say, not {one!r}")
    if isinstance(value, Mapping) and "" in value:
        raise refuse("names of users; one of them is empty")
    return value


def _code(value: object) -> int:
    low, high = limits.CODES
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise refuse(f"the code of a reply that refuses, from {low} to {high}, such as 421")


Names = Annotated[tuple[str, ...], BeforeValidator(_names()), _one_or_more({"type": "string"})]
Origins = Annotated[
    tuple[str, ...], BeforeValidator(_origins), _one_or_more({"type": "string", "pattern": "^https?://"})
]
Certified = Annotated[tuple[str, ...], BeforeValidator(_certified), _one_or_more({"type": "string", "minLength": 1})]
Alternative = Annotated[
    str, BeforeValidator(_altsvc), WithJsonSchema({"type": "string", "pattern": "^(?:[!-~](?:[ -~]*[!-~])?)?$"})
]
_NAMED = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"minLength": 1}}
Users = Annotated[dict[str, str], BeforeValidator(_users), WithJsonSchema(_NAMED)]
Files = Annotated[dict[str, str], BeforeValidator(_files), WithJsonSchema(_NAMED)]
Streams = Annotated[int, Field(ge=1, le=limits.SETTING)]
RefusalCode = Annotated[
    int,
    BeforeValidator(_code),
    WithJsonSchema({"type": "integer", "minimum": limits.CODES[0], "maximum": limits.CODES[1]}),
]
Per = Annotated[tuple[str, ...], BeforeValidator(_names(*PER)), _one_or_more({"enum": list(PER)})]


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


Code = Annotated[str, BeforeValidator(_choices(*H2_CODES)), WithJsonSchema({"enum": list(H2_CODES)})]


_LAST = {"anyOf": [{"enum": ["current", "previous"]}, {"type": "integer", "minimum": 0, "maximum": limits.STREAM}]}


class Farewell(Table):
    """A GOAWAY (RFC 9113 §6.8)."""

    code: Code = Field(default="NO_ERROR", description="Its error code.")
    last: Annotated[
        int | Literal["current", "previous"],
        BeforeValidator(_last),
        WithJsonSchema(_LAST),
    ] = Field(default="current", description="The last stream that is served.")


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


class Fault(Table):
    """What the fake does instead of behaving, or along with it."""

    reply: Lines | None = Field(
        default=None,
        description="Reply lines, exactly as sent; a list may hold two replies. A 2yz or 3yz takes effect, any other does not. A 1yz (FTP only) is said at once, and what follows it after `delay`.",
    )
    status: (
        Annotated[int, BeforeValidator(_status), WithJsonSchema({"type": "integer", "minimum": 200, "maximum": 599})]
        | None
    ) = Field(
        default=None,
        description="Answer an HTTP request with this status. A 2xx or 3xx takes effect (the app is asked), any other does not.",
    )
    headers: (
        Annotated[tuple[tuple[str, str], ...], BeforeValidator(_headers), WithJsonSchema({"type": "object"})] | None
    ) = Field(
        default=None,
        description="Header fields of the HTTP response; those of the app's own answer with the same names give way.",
    )
    body: str | None = Field(default=None, description="The content of the HTTP response.")
    reset_stream: Code | None = Field(
        default=None, description="End the HTTP/2 stream with RST_STREAM and this code; HTTP/1.1 loses its connection."
    )
    goaway: GoAway | None = Field(
        default=None,
        description='Send GOAWAY: true, a code, or { code = …, last = "current" | "previous" | N }. Streams above the last are not served, and when the others are through the connection closes, unless `close = false`. It goes at once, whatever the `delay` of the answer, and never raises the last of an earlier one: 2147483647 announces a shutdown, a later GOAWAY has the real last.',
    )
    altsvc: Alternative | None = Field(
        default=None, description="Name an alternative service (RFC 7838): a frame on HTTP/2, a header on HTTP/1.1."
    )
    origin: Origins | None = Field(
        default=None, description="Send an ORIGIN frame (RFC 8336) with these origins. HTTP/2 only."
    )
    close: Ending | None = Field(
        default=None,
        description='End the connection: true (after the reply has been seen), "reset" (RST), "abrupt" (at once), false (stay open). A 421 closes unless told otherwise.',
    )
    stall: bool | None = Field(default=None, description="Never answer this, and keep the connection open.")
    delay: Duration | None = Field(default=None, description="Wait this long before the answer.")
    drip: Duration | None = Field(
        default=None, description="Send the answer byte by byte, with this pause between two bytes."
    )
    keep: bool | None = Field(
        default=None, description="Whether what was asked takes effect (the message is kept), whatever the reply says."
    )
    after_bytes: Size | None = Field(
        default=None,
        description='Decided at the start, done when this many bytes of the body or transfer have passed (a number, or a size such as "1MB"); never, if it ends sooner.',
    )
    data: Annotated[DataEnding, BeforeValidator(_choices(*DATA_ENDINGS))] | None = Field(
        default=None,
        description='How an FTP data connection ends, before the reply: "fin" (closed), "reset" (RST), "drain" (what still comes is read and dropped). Or how it goes on: "ragged" (all of it passes, and TLS ends without a close_notify), "open" (with after_bytes: the reply is said then, and the rest passes). At PASV and EPSV, what the connection that they announce meets; there also "drop" (it never gets through).',
    )
    certificate: str | None = Field(default=None, description="Show this [certificate.NAME].")
    alert: Annotated[str, BeforeValidator(_choices(*ALERTS)), WithJsonSchema({"enum": list(ALERTS)})] | None = Field(
        default=None, description="Refuse the TLS handshake with this alert (RFC 8446 §6.2)."
    )


FAULT_KEYS = tuple(Fault.model_fields)


class Rule(Fault):
    """A moment, conditions that must all hold, and a fault. The first rule that matches wins."""

    on: Names = Field(description="The moment, or a list of them.")
    where: Annotated[dict[str, Any], BeforeValidator(_mapping)] | None = Field(
        default=None,
        description='Facts that must match: a glob, a value, or a list of them; "none" is absent; header.NAME reads a header.',
    )
    per: Per = Field(default=("server",), description="Count separately for each of these.")
    nth: Count | None = Field(default=None, description="Only the nth event.")
    every: Count | None = Field(default=None, description="Every nth event.")
    first: Amount | None = Field(
        default=None, description="The first so many events, or those within this time of the first one."
    )
    after: Amount | None = Field(
        default=None, description="The events after the first so many, or after this time; for `idle`, the silence."
    )
    over: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="When so many are already in: live connections that have passed here, or what is in progress.",
    )
    within: Length | None = Field(
        default=None, description="With `over`: count what was let through in this sliding window instead."
    )
    times: Count | None = Field(default=None, description="Fire at most so many times.")
    chance: Percent | None = Field(default=None, description="Fire with this probability, drawn from the seed.")
    since: Annotated[str, BeforeValidator(_choices(*SINCE)), WithJsonSchema({"enum": list(SINCE)})] | None = Field(
        default=None,
        description="For `idle`: silence since any command or byte of a transfer (any), the last command, transfers or not (command), the last transfer, or the connect.",
    )
    fault: str | None = Field(default=None, description="Take the fault of this name, from [fault.NAME].")


class Phase(Table):
    """A stretch of the scenario."""

    name: str = Field(default="", description="What reports call it.")
    lasts: Length | None = Field(default=None, description="It ends after this time.")
    until: dict[str, Count] | None = Field(
        default=None,
        description="It ends after so many events of a moment; refused ones count, and the last one still belongs to it.",
    )
    rule: list[Rule] = Field(default_factory=list, description="Its rules; the first that matches wins.")


class Limits(Table):
    """What an SMTP server takes on one connection: announced by LIMITS (RFC 9422), and enforced with 452."""

    mailmax: Count | None = Field(default=None, description="So many messages.")
    rcptmax: Count | None = Field(default=None, description="So many recipients of one message.")
    rcptdomainmax: Count | None = Field(
        default=None, description="So many domains among the recipients of one message."
    )


class Server(Table):
    """How the fake is set up."""

    tls: Annotated[
        str, BeforeValidator(_choices(*TLS_MODES["smtp"])), WithJsonSchema({"enum": list(TLS_MODES["smtp"])})
    ] = Field(default="none", description="Whether and how the server speaks TLS.")
    users: Users | None = Field(
        default=None, description="Names and passwords. Without it any login is good, and none is needed."
    )
    files: Files | None = Field(
        default=None,
        description='The tree of an FTP server: a path, and a text or a size such as "3MB" (up to "1GB"). Without it there are big.bin (3 MB) and small.txt.',
    )
    max_streams: Streams | None = Field(
        default=None,
        description="How many streams at a time an HTTP/2 server announces that it allows; `over` at `request` refuses more.",
    )
    h3: Annotated[str, BeforeValidator(_choices(*UDP)), WithJsonSchema({"enum": list(UDP)})] | None = Field(
        default=None,
        description="The UDP port of an HTTP server, for an Alt-Svc that names h3 on `{port}`: silent (QUIC's Initials are counted, and nobody answers) or closed.",
    )
    limits: Limits | None = Field(
        default=None,
        description="What an SMTP server announces with LIMITS (RFC 9422) and keeps to, such as { rcptmax = 50 }. A limit with a 421 is a rule with `over` or `nth`.",
    )
    quota: Size | None = Field(default=None, description='How much an FTP server has room for, such as "10MB".')


class Certificate(Table):
    """A certificate that the server can show."""

    names: Certified = Field(default=("localhost",), description="The host names and addresses that it covers.")
    expired: bool = Field(default=False, description="It ran out a while ago.")
    untrusted: bool = Field(default=False, description="Its CA is not the one in `ca_file`.")
    incomplete: bool = Field(default=False, description="The intermediate certificate is not sent.")


class Delivered(Table):
    """Each message is stored, and each file comes through whole, no more and no less often."""

    times: Count = Field(default=1, description="So many copies of each.")


class Retried(Table):
    """The client comes back after a refusal."""

    times: Count | None = Field(default=None, description="At least so often.")
    within: Duration | None = Field(default=None, description="So soon after the first refusal.")
    first_delay: Duration | None = Field(
        default=None, description="It waits at least so long before it first comes back."
    )
    backoff: Annotated[str, BeforeValidator(_choices(*SHAPES)), WithJsonSchema({"enum": list(SHAPES)})] | None = Field(
        default=None, description="How its waits grow."
    )


class Exceeded(Table):
    """A cap that the client keeps to."""

    connections: Count = Field(description="So many connections at a time, refused ones counted.")


class Expect(Table):
    """What a well-behaved client achieves: the assertions, without `assert_`."""

    delivered: Delivered | None = Field(
        default=None,
        description="Each message is stored, each file comes through whole, each request gets a good answer, so many times.",
    )
    retried: Retried | None = Field(default=None, description="The client tries again, so often and with such delays.")
    no_duplicates: bool | None = Field(default=None, description="No message or file is stored twice.")
    no_partial_files: bool | None = Field(
        default=None, description="Every file that was uploaded is whole in the end. FTP only."
    )
    new_connection_after: RefusalCode | None = Field(
        default=None, description="After a reply with this code the client comes back on another connection."
    )
    sni_matches_authority: bool | None = Field(
        default=None, description="Every request is for the host that its connection was made for. HTTP only."
    )
    not_coalesced: bool | None = Field(
        default=None, description="No connection carries requests for more than one host. HTTP only."
    )
    retry_after_honoured: bool | None = Field(
        default=None, description="No request comes back sooner than Retry-After has said. HTTP only."
    )
    body_replayed: bool | None = Field(
        default=None, description="A request that comes back has its whole body again. HTTP only."
    )
    never_exceeded: Exceeded | None = Field(
        default=None, description="At most so many connections at a time, refused ones counted."
    )
    gave_up: Duration | None = Field(
        default=None,
        description="The client tries for so long after its first refusal, to one interval, and then no more.",
    )


class Document(Table):
    """A scenario: phases of rules."""

    summary: str = Field(default="", description="What happens, in one sentence.")
    protocol: Annotated[str, BeforeValidator(_choices(*PROTOCOLS)), WithJsonSchema({"enum": list(PROTOCOLS)})] = Field(
        description="The protocol that it is for."
    )
    sources: list[str] = Field(default_factory=list, description="Where its behaviour and texts come from.")
    repeat: bool = Field(default=False, description="Play the phases in a circle.")
    params: dict[str, Any] = Field(default_factory=dict, description="Knobs; the default gives the type.")
    server: Server = Field(default_factory=Server, description="How the fake is set up.")
    certificate: dict[str, Certificate] = Field(
        default_factory=dict, description="Certificates; the first that covers the SNI is shown, else the first."
    )
    fault: dict[str, Fault] = Field(default_factory=dict, description="Faults under a name.")
    phase: list[Phase] = Field(default_factory=list, description="The phases, in order; the last one lasts.")
    expect: Expect = Field(default_factory=Expect, description="What a well-behaved client achieves here.")


TABLES: tuple[type[Table], ...] = (Document, Phase, Rule, Fault, Server, Limits, Certificate, Expect)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors. A placeholder may stand for any value."""
    schema = Document.model_json_schema()
    on = schema["$defs"]["Rule"]["properties"]["on"]
    moments = {"enum": sorted({moment for table in MOMENTS.values() for moment in table})}
    on["anyOf"] = [moments, {"type": "array", "items": moments, "minItems": 1}]
    schema["$defs"]["Rule"]["properties"]["where"] |= facts.json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "notnow scenario"}
    described = {**schema, "properties": {k: v for k, v in schema["properties"].items() if k != "params"}}
    filled: dict[str, Any] = _with_placeholders(described)
    filled["properties"]["params"] = schema["properties"]["params"]
    return {**filled, **head}


_PLACEHOLDER = {"type": "string", "pattern": r"\{[^{}]+\}"}
_ABOUT = ("title", "description", "default")


def _with_placeholders(node: Any) -> Any:
    """The same schema, with a text that holds a placeholder allowed wherever one value is."""
    if isinstance(node, list):
        return [_with_placeholders(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    tables = "$ref" in node.get("items", ())
    if "enum" in node or "pattern" in node or (node.get("type") in ("boolean", "integer", "array") and not tables):
        about = {key: node[key] for key in _ABOUT if key in node}
        kept = {key: value for key, value in node.items() if key not in about and key != "items"}
        if "items" in node:
            kept["items"] = _with_placeholders(node["items"])
        return {**about, "anyOf": [kept, _PLACEHOLDER]}
    node = {key: value for key, value in node.items() if (key, value) != ("default", None)}
    return {key: value if key in _ABOUT else _with_placeholders(value) for key, value in node.items()}
