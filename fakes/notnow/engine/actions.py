"""Actions: what a fake does next. The engine answers each of `notnow.engine.events` with scripts of these.

An adapter carries them out in one `match` that ends in `assert_never`. Seconds are seconds of scenario time.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from notnow.protocols.ftp import DataEnding

Ending = Literal["fin", "reset", "abrupt"]


class Response(Struct, frozen=True):
    """An HTTP response, or the parts that replace those of the app's response. None leaves a part as it is."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


class Proceed(Struct, frozen=True):
    """Behave: the command or request takes effect.

    `instead` replaces the healthy reply by other lines, or parts of the HTTP response. None leaves the reply as it is,
    an empty tuple sends none. `drip` is the pause between the bytes of the reply, in seconds.
    """

    instead: tuple[str, ...] | Response | None = None
    drip: float = 0.0


class Send(Struct, frozen=True):
    """Send these reply lines unchanged, with `drip` seconds between the bytes."""

    lines: tuple[str, ...]
    drip: float = 0.0


class Respond(Struct, frozen=True):
    """Answer a request without calling the app, with `drip` seconds between the bytes of the body."""

    response: Response
    drip: float = 0.0


class Wait(Struct, frozen=True):
    """Carry out the rest of the script this many seconds later."""

    seconds: float


class Hang(Struct, frozen=True):
    """Never answer. The connection stays open."""


class Watch(Struct, frozen=True):
    """Feed a `Reached` once this many bytes of the body or transfer have passed; none if it ends sooner."""

    bytes: int


class EndData(Struct, frozen=True):
    """End the data connection of a transfer, which then sends no reply of its own; or arrange the end of the next one.

    `fin`: close it, and leave unread the bytes of an upload in flight. `drain`: half-close it, and read and drop the
    client's bytes until it closes. `reset`: an RST. After a command that announces a data connection (PASV, EPSV) the
    next data connection ends so as soon as it is open; with `drop` it never opens, as behind a firewall that drops its
    packets. Two are for a transfer that goes on: `open` sends its final reply now and not at its end; `ragged` ends its
    TLS without a close_notify. `keep`: the part of an upload that has arrived, or all of it, stays.
    """

    how: DataEnding = "fin"
    keep: bool = True


class Close(Struct, frozen=True):
    """End the connection.

    `fin`: half-close, read the bytes in flight so that no reset overtakes the reply, then close. `abrupt`: close at
    once, even with unread bytes (the peer may see a reset and lose the reply). `reset`: an RST.
    """

    how: Ending = "fin"


class ResetStream(Struct, frozen=True):
    """End one stream with RST_STREAM and this error code (RFC 9113 §7). HTTP/1.1 closes the connection."""

    code: str


class GoAway(Struct, frozen=True):
    """Accept no streams above `last` on this connection (RFC 9113 §6.8).

    `last` is the number of a stream; or "current", this request or the highest stream so far; or "previous", the one
    before it, so that this request is not served. A later GOAWAY never raises it. `closes`: the connection closes once
    the streams up to `last` have ended.
    """

    code: str
    last: int | Literal["current", "previous"]
    closes: bool


class AltSvc(Struct, frozen=True):
    """Advertise an alternative service (RFC 7838): in a frame on HTTP/2, in a header on HTTP/1.1."""

    value: str


class Origin(Struct, frozen=True):
    """Name the origins that this connection serves (RFC 8336). HTTP/1.1 has no such frame."""

    origins: tuple[str, ...]


class Certify(Struct, frozen=True):
    """Present the certificate of this name."""

    name: str


class Alert(Struct, frozen=True):
    """Refuse the handshake with this TLS alert (RFC 8446 §6), such as `unrecognized_name`."""

    name: str


Action = (
    Proceed
    | Send
    | Respond
    | Wait
    | Hang
    | Watch
    | EndData
    | Close
    | ResetStream
    | GoAway
    | AltSvc
    | Origin
    | Certify
    | Alert
)

BEHAVE: tuple[Action, ...] = (Proceed(),)


class Script(Struct, frozen=True, gc=False):
    """Steps for one connection, or for one stream of it.

    `rule` is the key path of the rule that fired, such as `phase[0].rule[1]`, and `fault` names its fault; both are
    None if the fake just behaves. `decision` is the number of the store's decision, from 1; 0 if none was needed.
    """

    conn: str
    steps: tuple[Action, ...]
    moment: str
    phase: str
    rule: str | None = None
    fault: str | None = None
    decision: int = 0

    @property
    def closes(self) -> bool:
        return any(isinstance(step, Close) for step in self.steps)

    @property
    def proceeds(self) -> bool:
        """True if the command or request takes effect."""
        return any(isinstance(step, Proceed) for step in self.steps)
