"""The values that an exchange or a connection carries: a message, a transfer or a request, how it ended, frames, failures, TLS.

They are frozen. A value that changes while an exchange is under way is replaced.
"""

from __future__ import annotations

from collections.abc import KeysView, Mapping
from typing import Any, Literal

from msgspec import Struct, field, to_builtins

from notnow.protocols.ftp import DataEnding

# ---- what an exchange was about -------------------------------------------------------------------


class Arrival(Struct, frozen=True):
    """When a request arrived: its place in the order of everything that happened, and scenario seconds."""

    index: int
    at: float


class ByName(Struct, frozen=True):
    """A value whose parts are also found by the names that they have in JSON: `facts["header.host"]`, `dict(facts)`."""

    def as_dict(self) -> dict[str, Any]:
        """All parts, as JSON Lines have them."""
        parts: dict[str, Any] = to_builtins(self, enc_hook=dict)
        return parts

    def keys(self) -> KeysView[str]:
        return self.as_dict().keys()

    def __getitem__(self, name: str) -> Any:
        return self.as_dict()[name]

    def get(self, name: str, default: object = None) -> Any:
        return self.as_dict().get(name, default)


class Message(ByName, frozen=True, gc=False):
    """A message that has arrived (SMTP), whole or in part.

    It stands at the exchange of its final dot; at the `body` exchange if a rule answered it there; and at DATA or BDAT if
    the connection ended in the middle of it. `stored` says whether the fake kept it, whatever the reply said. `whole`:
    all of it has come. `size` is in bytes of content, so far. `message_id` is its Message-ID with the angle brackets, None
    if it has none or its headers have not come; `sha256` is the hash of its content, `text_sha256` that of its content
    without Message-ID and Date, None unless it was read to its end.
    `sender` and `recipients` are its envelope: the accepted recipients.
    """

    message_id: str | None
    sha256: str | None
    sender: str
    recipients: tuple[str, ...]
    stored: bool = True
    size: int | None = None
    whole: bool = True
    text_sha256: str | None = None

    @property
    def name(self) -> str:
        """What tells it from other messages: its Message-ID, the first digits of its hash, or else its sender."""
        return self.message_id or (f"sha256:{self.sha256[:16]}" if self.sha256 else f"a message from <{self.sender}>")


class Parameters(ByName, frozen=True):
    """The parameters of a MAIL or RCPT command by their upper-case names, with xtext decoded (RFC 3461 §4)."""

    parameters: Mapping[str, str]


class Transfer(ByName, frozen=True, omit_defaults=True):
    """A transfer that a client asked for (FTP), at the exchange of its command.

    `mode` is "active" or "passive", None if no data connection was prepared. `offset` is where it began (REST), `bytes`
    what has passed on the data connection, and `data` how that ended, None after a whole transfer. `whole`: all of it has
    passed. `stored` is True for a whole upload that was kept, False for one that was undone, None for anything else;
    `sha256` is the hash of what was stored. `resumed`: the TLS of the data connection resumed a session.

    `cut_by` is the side that ended the data connection before all had passed, None if all had, or if there was no data
    connection: the client closes one early to stop, or to take a segment only. `size` is that of the whole file of a
    download. `failure` says why the TLS of the data connection failed.
    """

    path: str
    direction: Literal["upload", "download", "listing"]
    mode: str | None
    offset: int
    bytes: int
    whole: bool
    data: DataEnding | None
    stored: bool | None = None
    sha256: str | None = None
    resumed: bool | None = None
    cut_by: Literal["client", "fake"] | None = None
    size: int | None = None
    failure: Failure | None = None


class Target(ByName, frozen=True, omit_defaults=True):
    """The file or directory that a command other than a transfer is about (FTP), at the exchange of the command.

    `path` is absolute and normalized, as in `Transfer`. At RNTO, `path` is the new name and `source` the one of the RNFR
    before it, None without one.
    """

    path: str
    source: str | None = None


class Request(ByName, frozen=True, omit_defaults=True, gc=False):
    """A request (HTTP) with what is known of its body and of the answer.

    `misdirected` says why its connection was the wrong one: "sni", "certificate", both or neither. `status` is None while
    there is no answer; `sent` counts bytes of its body, and `whole` says that all of them were sent. `stored` is true for a
    request that is not idempotent and that the app carried out. `host_header` is a Host field that differs from :authority.
    `length` is the size of the answer's body that its head announces. `cancelled` is when the client gave the request up
    by an RST_STREAM of its own (HTTP/2).
    """

    stream: int
    version: str
    method: str
    authority: str
    host: str
    path: str
    misdirected: tuple[str, ...]
    status: int | None
    body_bytes: int
    body_sha256: str | None
    sent: int
    whole: bool
    stored: bool
    alt_used: str | None = field(default=None, name="alt-used")
    host_header: str | None = field(default=None, name="header.host")
    retry_after: str | None = field(default=None, name="retry-after")
    alt_svc: str | None = field(default=None, name="alt-svc")
    location: str | None = None
    app_error: str | None = None
    malformed: str | None = None
    idempotency_key: str | None = field(default=None, name="idempotency-key")
    length: int | None = None
    cancelled: Arrival | None = None


class MalformedRequest(ByName, frozen=True):
    """A request on a stream that ended because it was malformed (RFC 9113 §8.1.1)."""

    stream: int
    malformed: str


Facts = Message | Parameters | Transfer | Target | Request | MalformedRequest


# ---- how the fake ended an exchange ---------------------------------------------------------------


class ConnectionClose(Struct, frozen=True, tag="close", tag_field="type"):
    """The fake closed the connection: with a FIN, with a reset, or abruptly (no FIN after the last reply, no TLS goodbye)."""

    how: Literal["fin", "reset", "abrupt"] = "fin"

    def __str__(self) -> str:
        return _CLOSES[self.how]


class TLSAlert(Struct, frozen=True, tag="alert", tag_field="type"):
    """The fake ended the TLS handshake with the alert `name` (RFC 8446 §6)."""

    name: str

    def __str__(self) -> str:
        return f"the TLS alert {self.name}"


class ExcludedByGoAway(Struct, frozen=True, tag="goaway", tag_field="type"):
    """The fake did not serve this request: its stream is above the last one of a GOAWAY (RFC 9113 §6.8)."""

    def __str__(self) -> str:
        return "a GOAWAY that left this request out"


class FakeStopped(Struct, frozen=True, tag="stopped", tag_field="type"):
    """The fake was stopped, and said goodbye as a server does that shuts down (RFC 5321 §3.8, RFC 959 §4.2.1)."""

    def __str__(self) -> str:
        return "the end of the fake"


End = ConnectionClose | TLSAlert | ExcludedByGoAway | FakeStopped

_CLOSES = {"fin": "a close without a word", "reset": "a reset of the connection", "abrupt": "an abrupt close"}


# ---- HTTP/2 frames that the fake sent -------------------------------------------------------------


class Sent(Struct, frozen=True, kw_only=True):
    """A frame that has left: `at` in scenario seconds, `index` in the order of everything that happened."""

    at: float = 0.0
    index: int = 0


class GoAwayFrame(Sent, frozen=True, tag="GOAWAY", tag_field="type"):
    """GOAWAY with an error code: streams above `last_stream` are not served (RFC 9113 §6.8)."""

    code: str
    last_stream: int

    def __str__(self) -> str:
        return f"GOAWAY {self.code}, last stream {self.last_stream}"


class RstStreamFrame(Sent, frozen=True, tag="RST_STREAM", tag_field="type"):
    """RST_STREAM of one stream, with an error code (RFC 9113 §6.4)."""

    code: str
    stream: int

    def __str__(self) -> str:
        return f"RST_STREAM {self.code}"


class AltSvcFrame(Sent, frozen=True, tag="ALTSVC", tag_field="type"):
    """ALTSVC (RFC 7838 §4): `value` is its Alt-Svc field."""

    value: str

    def __str__(self) -> str:
        return f"ALTSVC {self.value}"


class OriginFrame(Sent, frozen=True, tag="ORIGIN", tag_field="type"):
    """ORIGIN (RFC 8336 §2): the origins for which the connection is good."""

    origins: tuple[str, ...]

    def __str__(self) -> str:
        return f"ORIGIN {' '.join(self.origins)}"


Frame = GoAwayFrame | RstStreamFrame | AltSvcFrame | OriginFrame


# ---- what went wrong on a connection ----------------------------------------------------------------


class ProtocolViolation(Struct, frozen=True, tag="protocol", tag_field="type"):
    """The client broke the protocol: `code` is the error code or the status that the fake ended the connection with."""

    version: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.version} {self.code}: {self.reason}"


class NotUnderstood(Struct, frozen=True, tag="not understood", tag_field="type"):
    """The client sent so many commands in a row that the fake did not understand (`notnow.bounds`)."""

    commands: int

    def __str__(self) -> str:
        return f"{self.commands} commands in a row were not understood"


class HandshakeFailed(Struct, frozen=True, tag="handshake", tag_field="type"):
    """The TLS handshake failed."""

    reason: str

    def __str__(self) -> str:
        return f"TLS handshake failed: {self.reason}"


class CertificateRejected(Struct, frozen=True, tag="certificate rejected", tag_field="type"):
    """The client rejected the certificate that it was shown, with the TLS alert `alert` (RFC 8446 §6.2).

    In TLS 1.3 the alert comes when the handshake is over for the fake.
    """

    alert: str

    def __str__(self) -> str:
        return f"the client rejected the certificate (TLS alert {self.alert})"


class AlertReceived(Struct, frozen=True, tag="client alert", tag_field="type"):
    """The client ended TLS with another alert."""

    alert: str

    def __str__(self) -> str:
        return f"the client ended TLS with the alert {self.alert}"


class HandshakeAbandoned(Struct, frozen=True, tag="abandoned", tag_field="type"):
    """The client closed the connection without an alert: during the TLS handshake or, if `done`, after it and before any data.

    It may have rejected the certificate; nothing on the wire says so.
    """

    done: bool

    def __str__(self) -> str:
        return f"the client closed the connection {'right after' if self.done else 'during'} the TLS handshake, without an alert"


class ConnectionLost(Struct, frozen=True, tag="lost", tag_field="type"):
    """The connection broke; `reason` is the operating system's."""

    reason: str

    def __str__(self) -> str:
        return self.reason


Failure = (
    ProtocolViolation
    | NotUnderstood
    | HandshakeFailed
    | CertificateRejected
    | AlertReceived
    | HandshakeAbandoned
    | ConnectionLost
)


# ---- TLS -----------------------------------------------------------------------------------------

Defect = Literal["untrusted", "expired", "incomplete", "name"]


class TLS(Struct, frozen=True):
    """The TLS of a connection: `sni` is the name that the client asked for, `certificate` the one that it was shown.

    `alpn` is the protocol that both agreed on (RFC 7301), None if they agreed on none. `error` is the reason why the
    handshake failed, None if it succeeded. `defects` are the reasons why a client must not trust the certificate: a CA
    that no client knows has signed it ("untrusted"), its time is over ("expired"), the intermediate that signed it was not
    sent ("incomplete"), or it does not cover the SNI ("name").
    """

    version: str | None = None
    sni: str | None = None
    certificate: str | None = None
    alpn: str | None = None
    error: str | None = None
    defects: tuple[Defect, ...] = ()

    @property
    def trusted(self) -> bool | None:
        """True if a client that knows the fake's CA may trust the certificate; None if it was shown none."""
        return None if self.certificate is None else not self.defects
