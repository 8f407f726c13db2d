"""The faults of a sweep over SMTP."""

from __future__ import annotations

from notnow.chaos.faults.fault import EVERYWHERE, HALF, HANDSHAKE, SILENT, Answers, Fault, at, cut, everywhere_except

# RFC 5321 §3.8 allows 421 at any command; the words are those of RFC 3463 §3.4 for X.3.2.
_421 = 'reply = "421 4.3.2 System not accepting network messages"'
_MESSAGE = at("message")

FAULTS = (
    Fault("421", "is answered 421, and the connection closes", _421, EVERYWHERE),
    Fault("421-open", "is answered 421, and the connection stays open", f"{_421}\nclose = false", EVERYWHERE),
    Fault(
        "451", "is answered 451", 'reply = "451 4.3.0 Temporary failure"', everywhere_except("tls", "connect", "quit")
    ),
    *SILENT,
    Fault("cut", "is cut in the middle by a close", f"{HALF}\nclose = true", _MESSAGE, on="body", **cut("close")),
    Fault("cut-421", "is cut in the middle by a 421", f"{HALF}\n{_421}", _MESSAGE, on="body", **cut("421")),
    Fault("kept-421", "is kept, and yet answered 421", f"{_421}\nkeep = true", _MESSAGE, kept=True),
    Fault(
        "kept-close",
        "is kept, and the connection closes without a reply",
        "close = true\nkeep = true",
        _MESSAGE,
        kept=True,
    ),
    *HANDSHAKE,
)

_SORRY = "Service not available, closing transmission channel"  # RFC 5321 §4.2.2

ANSWERS = Answers(
    now=(
        f"421 4.3.2 {_SORRY}",
        "451 4.3.0 Requested action aborted: error in processing",
        "450 4.2.1 Mailbox unavailable",
        "452 4.3.1 Insufficient system storage",
        ["421-4.3.2 Service not available,", "421 4.3.2 closing transmission channel"],
    ),
    final=("550 5.7.1 Requested action not taken", "554 5.3.0 Transaction failed"),
    also={"message": (["250 2.0.0 Ok: queued", f"421 4.3.2 {_SORRY}"],)},
)
