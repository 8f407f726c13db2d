"""The faults of a sweep over FTP."""

from __future__ import annotations

from notnow.chaos.faults.fault import EVERYWHERE, HALF, HANDSHAKE, SILENT, Answers, Fault, at, cut, everywhere_except

_421 = 'reply = "421 Service not available, closing control connection."'  # RFC 959 §4.2
_AMID = f'{HALF}\ndata = "fin"\n'
_TRANSFERS = at("retr", "stor", "appe", "stou", "list", "nlst", "mlsd")
_UPLOADS = at("stor", "appe", "stou")

FAULTS = (
    Fault("421", "is answered 421, and the connection closes", _421, EVERYWHERE),
    Fault("421-open", "is answered 421, and the connection stays open", f"{_421}\nclose = false", EVERYWHERE),
    Fault("450", "is answered 450", 'reply = "450 Requested file action not taken."', everywhere_except("tls", "connect", "quit")),
    *SILENT,
    Fault(
        "cut", "is cut in the middle, and answered 426",
        f'{_AMID}reply = "426 Connection closed; transfer aborted."', _TRANSFERS, **cut("450"),
    ),
    Fault("cut-421", "is cut in the middle, and answered 421", f"{_AMID}{_421}", _TRANSFERS, **cut("421")),
    Fault("cut-close", "is cut in the middle, and both connections close", f"{_AMID}close = true", _TRANSFERS, **cut("close")),
    Fault("late-451", "passes whole, and is answered 451", 'reply = "451 Requested action aborted."', _UPLOADS, on="complete"),
    Fault("kept-421", "is kept whole, and yet answered 421", f"{_421}\nkeep = true", _UPLOADS, on="complete", kept=True),
    Fault(
        "kept-close", "is kept whole, and the connection closes without a reply", "close = true\nkeep = true", _UPLOADS,
        on="complete", kept=True,
    ),
    *HANDSHAKE,
)  # fmt: skip

_SORRY = "421 Service not available, closing control connection."  # RFC 959 §4.2

ANSWERS = Answers(
    now=(
        _SORRY,
        "426 Connection closed; transfer aborted.",
        "450 Requested file action not taken.",
        "451 Requested action aborted: local error in processing.",
        "425 Can't open data connection.",
        ["421-Service not available,", "421 closing control connection."],
    ),
    final=("550 Requested action not taken.", "530 Not logged in."),
    also={"complete": (["226 Transfer complete.", _SORRY],)},
)
