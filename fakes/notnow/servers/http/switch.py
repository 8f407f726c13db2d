"""Which version of HTTP a connection speaks, and how it changes over from HTTP/1.1 to HTTP/2.

Private seams of hypercorn: the errors with which its HTTP/1.1 hands over to HTTP/2.
"""

from __future__ import annotations

from hypercorn.events import Closed, RawData
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError

from notnow.servers.http.http2 import H2
from notnow.servers.http.http11 import H11
from notnow.servers.http.interfaces import Headers, Owner


class Switch:
    """The protocol of a connection: the one that ALPN has chosen, else the one in which the client begins."""

    def __init__(self, owner: Owner, alpn: str | None) -> None:
        self._owner = owner
        self.protocol: H2 | H11 = H2(owner) if alpn == "h2" else H11(owner)

    async def initiate(self) -> None:
        await self.protocol.initiate()

    async def handle(self, data: bytes) -> None:
        try:
            await self.protocol.handle(RawData(data=data))
        except H2ProtocolAssumedError as assumed:  # prior knowledge (RFC 9113 §3.3)
            await self._upgrade(assumed.data)
        except H2CProtocolRequiredError as required:  # RFC 7540 §3.2
            await self._upgrade(required.data, required.headers, required.settings)

    async def _upgrade(self, rest: bytes, headers: Headers | None = None, settings: bytes | None = None) -> None:
        self.protocol = H2(self._owner)
        await self.protocol.initiate(headers, settings)
        if rest:
            await self.protocol.handle(RawData(data=rest))

    async def end(self) -> None:
        """The connection has ended, and all its streams with it."""
        await self.protocol.handle(Closed())
