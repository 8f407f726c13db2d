"""Refusals at connect: scripts that need no session, since a bare socket can carry them out."""

from __future__ import annotations

from msgspec import Struct

from notnow.engine.actions import Action, Close, Send
from notnow.journal import ConnectionClose


class Refusal(Struct, frozen=True):
    """A reply and a close, or a close alone: `words` are the reply as the journal has it, `data` as it is sent."""

    words: str | None
    data: bytes
    end: ConnectionClose


def refusal(steps: tuple[Action, ...]) -> Refusal | None:
    """The refusal that these steps are; None if they are more."""
    match steps:
        case (Close(how),):
            return Refusal(None, b"", ConnectionClose(how))
        case (Send(lines, 0), Close("fin")) if lines:
            data = "\r\n".join((*lines, "")).encode("utf-8", "surrogateescape")
            return Refusal("\n".join(lines), data, ConnectionClose())
    return None
