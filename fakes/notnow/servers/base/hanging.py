"""A rule that hangs: the client gets no answer, its bytes are dropped, and the fake notices that it leaves."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from notnow.journal import Exchange
from notnow.servers.base.session import Host


class Hanging:
    """A party that a rule can leave without an answer: a connection, or one of the requests on it."""

    host: Host
    departure: ClassVar[type[Exception]]  # raised where the client has left
    _hung: asyncio.Future[None] | None = None

    @property
    def eof(self) -> bool:
        """The client has closed its sending side."""
        raise NotImplementedError

    @property
    def hangs(self) -> bool:
        """A rule hangs here until the client leaves."""
        return self._hung is not None

    def stall(self, exchange: Exchange) -> None:
        """Answer nothing from now on, and drop what the client sends."""
        self.host.recorder.tell(exchange)

    async def hang(self, exchange: Exchange) -> None:
        """Stall until the client leaves, then raise `departure`."""
        self.stall(exchange)
        self._hung = self.host.loop.create_future()
        if self.eof:
            self.wake()
        await self._hung

    def wake(self) -> None:
        """The client has left: the rule that hangs here has ended."""
        if self._hung is not None and not self._hung.done():
            self._hung.set_exception(self.departure())
