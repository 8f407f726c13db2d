"""The values that an exchange or a connection carries: how it ended, the HTTP/2 frames that the fake sent, TLS.

They are frozen. A value that changes while an exchange is under way is replaced.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

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


class GoAwayFrame(Struct, frozen=True, tag="GOAWAY", tag_field="type"):
    """GOAWAY with an error code: streams above `last_stream` are not served (RFC 9113 §6.8)."""

    code: str
    last_stream: int

    def __str__(self) -> str:
        return f"GOAWAY {self.code}, last stream {self.last_stream}"


class RstStreamFrame(Struct, frozen=True, tag="RST_STREAM", tag_field="type"):
    """RST_STREAM of one stream, with an error code (RFC 9113 §6.4)."""

    code: str
    stream: int

    def __str__(self) -> str:
        return f"RST_STREAM {self.code}"


class AltSvcFrame(Struct, frozen=True, tag="ALTSVC", tag_field="type"):
    """ALTSVC (RFC 7838 §4): `value` is its Alt-Svc field."""

    value: str

    def __str__(self) -> str:
        return f"ALTSVC {self.value}"


class OriginFrame(Struct, frozen=True, tag="ORIGIN", tag_field="type"):
    """ORIGIN (RFC 8336 §2): the origins for which the connection is good."""

    origins: tuple[str, ...]

    def __str__(self) -> str:
        return f"ORIGIN {' '.join(self.origins)}"


Frame = GoAwayFrame | RstStreamFrame | AltSvcFrame | OriginFrame


# ---- TLS -----------------------------------------------------------------------------------------


class TLS(Struct, frozen=True):
    """The TLS of a connection: `sni` is the name that the client asked for, `certificate` the one that it was shown.

    `alpn` is the protocol that both agreed on (RFC 7301), None if they agreed on none. `error` is the reason why the
    handshake failed, None if it succeeded.
    """

    version: str | None = None
    sni: str | None = None
    certificate: str | None = None
    alpn: str | None = None
    error: str | None = None
