"""The mail that a fake has accepted."""

from __future__ import annotations

from collections import deque

from notnow.bounds import KEPT_BODIES
from notnow.servers.smtp.message import Envelope, Message


class Mailbox:
    """The accepted mail of a fake; the oldest message is dropped when there is no room left (see `notnow.bounds`)."""

    def __init__(self) -> None:
        self._kept: deque[Envelope] = deque()
        self._parsed: dict[int, Message] = {}
        self._bytes = 0

    def add(self, envelope: Envelope) -> None:
        """Keep a message."""
        self._kept.append(envelope)
        self._bytes += envelope.weight
        while self._bytes > KEPT_BODIES and len(self._kept) > 1:
            self._bytes -= self._kept.popleft().weight

    @property
    def messages(self) -> list[Message]:
        """The messages in the order in which they came; each is parsed once."""
        kept = list(self._kept)
        if not kept:
            return []
        from notnow.servers.smtp.parsing import parsed  # heavy, and only for tests that look into a message

        self._parsed = {id(e): self._parsed.get(id(e)) or parsed(e) for e in kept}
        return [self._parsed[id(e)] for e in kept]

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0
