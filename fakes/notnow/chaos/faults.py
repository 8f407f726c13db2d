"""The faults of a sweep: its columns. Each is the text of a rule, and says at which events it can act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from notnow.chaos.steps import Step

Test = Callable[[Step], bool]


class Fault(Struct, frozen=True):
    """A fault of the sweep.

    `keys` are the TOML lines of its rule; `{half}` is half the size of the event. `fits` says at which events it can act,
    and `on` at which moment it acts, if not at the event's own. Where `unless` does not hold, it cannot be told from the
    fault `same_as`, `because` of what the event lacks. `stays`: it also acts at every later event of its kind, until a client
    connects again. `kept`: the server keeps what it refuses, and the client cannot know.
    """

    name: str
    about: str
    keys: str
    fits: Test
    on: str = ""
    unless: Test | None = None
    same_as: str = ""
    because: str = ""
    stays: bool = False
    kept: bool = False

    def differs(self, step: Step) -> bool:
        """False if its effect at this event is that of the fault that it is the `same_as`."""
        return self.unless is None or self.unless(step)


def _at(*moments: str) -> Test:
    return lambda step: step.moment in moments


def _except(*moments: str) -> Test:
    return lambda step: step.moment not in moments


def _can_be_cut(step: Step) -> bool:
    return step.size > 1


def _changes(step: Step) -> bool:
    return step.changes


def _framed(step: Step) -> bool:
    return step.framed


_HALF = "after_bytes = {half}"
_EVERYWHERE = _except("tls")
_HANDSHAKE = (
    Fault("alert", "ends with the alert internal_error", 'alert = "internal_error"', _at("tls")),
    Fault("close", "ends with a close", "close = true", _at("tls")),
)
_SILENT = (
    Fault("close", "gets no reply, and the connection closes", "close = true", _EVERYWHERE),
    Fault("reset", "gets no reply but a reset", 'close = "reset"', _EVERYWHERE),
    Fault("stall", "never gets a reply", "stall = true", _EVERYWHERE),
)


def _only_if(unless: Test, same_as: str, because: str) -> Mapping[str, Any]:
    return {"unless": unless, "same_as": same_as, "because": because}


def _cut(same_as: str) -> Mapping[str, Any]:
    return _only_if(_can_be_cut, same_as, "there are no two bytes to cut")


def _kept(same_as: str) -> Mapping[str, Any]:
    return _only_if(_changes, same_as, "a safe request changes nothing (RFC 9110 §9.2.1)")


_FRAME = _only_if(_framed, "close", "HTTP/1.1 has no frames")


# RFC 5321 §3.8 allows 421 at any command; the words are those of RFC 3463 §3.4 for X.3.2.
_SMTP_421 = 'reply = "421 4.3.2 System not accepting network messages"'
_MESSAGE = _at("message")

SMTP = (
    Fault("421", "is answered 421, and the connection closes", _SMTP_421, _EVERYWHERE),
    Fault("421-open", "is answered 421, and the connection stays open", f"{_SMTP_421}\nclose = false", _EVERYWHERE),
    Fault("451", "is answered 451", 'reply = "451 4.3.0 Temporary failure"', _except("tls", "connect", "quit")),
    *_SILENT,
    Fault("cut", "is cut in the middle by a close", f"{_HALF}\nclose = true", _MESSAGE, on="body", **_cut("close")),
    Fault("cut-421", "is cut in the middle by a 421", f"{_HALF}\n{_SMTP_421}", _MESSAGE, on="body", **_cut("421")),
    Fault("kept-421", "is kept, and yet answered 421", f"{_SMTP_421}\nkeep = true", _MESSAGE, kept=True),
    Fault(
        "kept-close",
        "is kept, and the connection closes without a reply",
        "close = true\nkeep = true",
        _MESSAGE,
        kept=True,
    ),
    *_HANDSHAKE,
)

_FTP_421 = 'reply = "421 Service not available, closing control connection."'  # RFC 959 §4.2
_AMID = f'{_HALF}\ndata = "fin"\n'
_TRANSFERS = _at("retr", "stor", "appe", "stou", "list", "nlst", "mlsd")
_UPLOADS = _at("stor", "appe", "stou")

FTP = (
    Fault("421", "is answered 421, and the connection closes", _FTP_421, _EVERYWHERE),
    Fault("421-open", "is answered 421, and the connection stays open", f"{_FTP_421}\nclose = false", _EVERYWHERE),
    Fault("450", "is answered 450", 'reply = "450 Requested file action not taken."', _except("tls", "connect", "quit")),
    *_SILENT,
    Fault(
        "cut", "is cut in the middle, and answered 426",
        f'{_AMID}reply = "426 Connection closed; transfer aborted."', _TRANSFERS, **_cut("450"),
    ),
    Fault("cut-421", "is cut in the middle, and answered 421", f"{_AMID}{_FTP_421}", _TRANSFERS, **_cut("421")),
    Fault("cut-close", "is cut in the middle, and both connections close", f"{_AMID}close = true", _TRANSFERS, **_cut("close")),
    Fault("late-451", "passes whole, and is answered 451", 'reply = "451 Requested action aborted."', _UPLOADS, on="complete"),
    Fault("kept-421", "is kept whole, and yet answered 421", f"{_FTP_421}\nkeep = true", _UPLOADS, on="complete", kept=True),
    Fault(
        "kept-close", "is kept whole, and the connection closes without a reply", "close = true\nkeep = true", _UPLOADS,
        on="complete", kept=True,
    ),
    *_HANDSHAKE,
)  # fmt: skip

_REQUESTS = _at("request")

HTTP = (
    Fault("421", "is answered 421", "status = 421\nclose = false", _REQUESTS),
    Fault("421", "has 421 for every request, and closes", "status = 421", _at("connect")),
    Fault(
        "421-stays", "and all that follow are answered 421 until a new connection", "status = 421\nclose = false", _REQUESTS,
        stays=True,
    ),
    Fault("429", "is answered 429 with Retry-After: 1", 'status = 429\nheaders = { retry-after = "1" }', _REQUESTS),
    Fault("503", "is answered 503 with Retry-After: 1", 'status = 503\nheaders = { retry-after = "1" }', _REQUESTS),
    *_SILENT,
    Fault(
        "cut", "gets half of its answer, and a close", f'{_HALF}\nclose = "abrupt"', _REQUESTS, on="response", **_cut("close")
    ),
    Fault("kept-503", "is carried out, and yet answered 503", "status = 503\nkeep = true", _REQUESTS, kept=True, **_kept("503")),
    Fault(
        "kept-close", "is carried out, and the connection closes without an answer", "close = true\nkeep = true", _REQUESTS,
        kept=True, **_kept("close"),
    ),
    Fault(
        "refused", "is refused by RST_STREAM REFUSED_STREAM", 'reset_stream = "REFUSED_STREAM"', _REQUESTS, **_FRAME
    ),
    Fault("goaway", "is left out by a GOAWAY", 'goaway = { last = "previous" }', _REQUESTS, **_FRAME),
    *_HANDSHAKE,
)  # fmt: skip

BY_PROTOCOL: Mapping[str, tuple[Fault, ...]] = {"smtp": SMTP, "ftp": FTP, "http": HTTP}


def of_protocol(protocol: str) -> tuple[Fault, ...]:
    """The faults of a protocol, in the order of the columns; for one that has none here, those without words."""
    return BY_PROTOCOL.get(protocol, _SILENT)


def names(protocol: str) -> list[str]:
    """The names of its faults, each once, in the order of the columns."""
    return list(dict.fromkeys(fault.name for fault in of_protocol(protocol)))
