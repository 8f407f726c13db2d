"""What a fake does next, in the words of the adapters.

The engine answers each `notnow.engine.events.Event` with `Script`s of these; an adapter carries them out in one
`match` that ends in `assert_never`. Seconds are seconds of scenario time.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from notnow.protocols.ftp import DataEnding

Ending = Literal["fin", "reset", "abrupt"]


class Response(Struct, frozen=True):
    """An HTTP response, or the parts of one that a rule puts in place of the app's: None leaves a part as it is."""

    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None


class Proceed(Struct, frozen=True):
    """Behave: let what was asked take effect.

    `instead` are the lines to say in place of the healthy reply, or what to put in place of an HTTP response:
    None leaves it as it is, an empty tuple says nothing. `drip` is the pause between the bytes of the reply, in
    seconds.
    """

    instead: tuple[str, ...] | Response | None = None
    drip: float = 0.0


class Send(Struct, frozen=True):
    """Send reply lines exactly as they stand, `drip` seconds apart byte by byte."""

    lines: tuple[str, ...]
    drip: float = 0.0


class Respond(Struct, frozen=True):
    """Answer a request with this, and do not ask the app; `drip` seconds between the bytes of the body."""

    response: Response
    drip: float = 0.0


class Wait(Struct, frozen=True):
    """Do the rest of the script this many seconds later."""

    seconds: float


class Hang(Struct, frozen=True):
    """Say nothing and do nothing more about this, for ever; the connection stays open."""


class Watch(Struct, frozen=True):
    """Say `Reached` when this many bytes of the body or transfer have passed; not if it ends sooner."""

    bytes: int


class EndData(Struct, frozen=True):
    """End the data connection of a transfer, whose own reply is then not said; or doom the next one.

    `fin`: close it, and leave unread what an upload has in flight. `drain`: half-close it, and read and drop
    what the client still sends, until it closes. `reset`: an RST. Said of a command that announces a data
    connection (PASV, EPSV), it is what that one meets as soon as it comes; `drop`: it never gets through, as
    at a firewall that drops its packets. Two are for a transfer that goes on: `open`, its final reply is said now and not
    at its end; `ragged`, its TLS will end without a close_notify. `keep` is whether the piece of an upload that has come
    stays; where all of it has come, whether it does.
    """

    how: DataEnding = "fin"
    keep: bool = True


class Close(Struct, frozen=True):
    """End the connection.

    `fin`: half-close, read what is still in flight so that no reset overtakes the reply, then close.
    `abrupt`: close at once, unread bytes or not (the peer may see a reset and lose the reply).
    `reset`: an RST.
    """

    how: Ending = "fin"


class ResetStream(Struct, frozen=True):
    """End one stream with RST_STREAM and this error code (RFC 9113 §7); HTTP/1.1 loses its connection."""

    code: str


class GoAway(Struct, frozen=True):
    """Take no streams above `last` on this connection (RFC 9113 §6.8).

    `last` is a stream's number; or "current", the request at hand or the highest that has come; or "previous",
    the one before it, so that the request at hand has not been served. A later one never raises it. `closes`: the
    connection closes when the streams up to `last` are through.
    """

    code: str = "NO_ERROR"
    last: int | Literal["current", "previous"] = "current"
    closes: bool = True


class AltSvc(Struct, frozen=True):
    """Name an alternative service (RFC 7838): by a frame on HTTP/2, by a header on HTTP/1.1."""

    value: str


class Origin(Struct, frozen=True):
    """Say for which origins this connection is good (RFC 8336); HTTP/1.1 cannot."""

    origins: tuple[str, ...]


class Certify(Struct, frozen=True):
    """Show the certificate of this name."""

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


class Script(Struct, frozen=True):
    """Steps for one connection (or one stream of it).

    `rule` is the key path of the rule that they come from, such as `phase[0].rule[1]`, and `fault` what it
    does in a word or two; both are None where the fake just behaves.
    """

    conn: str
    steps: tuple[Action, ...]
    moment: str
    phase: str
    rule: str | None = None
    fault: str | None = None
    stream: int = 0

    @property
    def closes(self) -> bool:
        return any(isinstance(step, Close) for step in self.steps)

    @property
    def proceeds(self) -> bool:
        """True if what was asked takes effect."""
        return any(isinstance(step, Proceed) for step in self.steps)
