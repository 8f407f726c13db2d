"""A message in the chunks of BDAT (RFC 3030)."""

# ruff: noqa: N802 (the names of aiosmtpd's methods)
from __future__ import annotations

import re
from typing import Any

from msgspec import structs

from notnow.bounds import SMTP_MESSAGE
from notnow.engine.events import Heard
from notnow.servers.base.dialogue import ReplyOverride
from notnow.servers.smtp.body import Chunks
from notnow.servers.smtp.connection import CHUNK
from notnow.servers.smtp.transaction import NEED_RCPT, TOO_LARGE, Transactions

_BDAT = re.compile(r"([0-9]{1,20})(?:\s+(LAST))?", re.IGNORECASE)


class Chunking(Transactions):
    """A session that accepts mail in chunks as well."""

    chunk = 0  # octets of a BDAT that are still to come

    async def _bdat(self, request: str, argument: str | None, facts: dict[str, Any]) -> None:
        """BDAT (RFC 3030 §2). Rules at `data`, `body` and `message` apply to it, too; `data` is its first chunk. A refused
        chunk is read all the same; it ends the transaction, and nothing is kept.
        """
        found = _BDAT.fullmatch(argument or "")
        self.chunk = int(found[1]) if found else 0
        moment = "data" if self.envelope.chunks is None else "bdat"
        await self._ask(moment, request, lambda: self.smtp_BDAT(argument), facts)
        if self.chunk or (found and self.exchange.refused):
            while self.chunk:
                self.chunk -= len(await self._piece(min(CHUNK, self.chunk)))
                self.host.feed(Heard(self.record.id))
            self._reset_transaction()

    async def smtp_BDAT(self, arg: str | None) -> None:
        found = _BDAT.fullmatch(arg or "")
        if refusal := self._stands(self._no_bdat() if found else "501 5.5.4 Syntax: BDAT <size> [LAST]"):
            await self.push(refusal)
            return
        override = self.override
        if override.instead and override.instead[0].startswith("3"):  # a 354 is no reply to a chunk
            self.override = override = structs.replace(override, instead=None)
        if (body := self.envelope.chunks) is None:
            body = self.envelope.chunks = Chunks(SMTP_MESSAGE)
            self.envelope.begun = self.exchange
            await self._amid()
        octets = self.chunk
        try:
            answered = await self._read_chunk(body)
        finally:
            self._note_cut(body)  # more chunks may never come
        if answered:
            self._reset_transaction()
        elif found and found[2]:
            await self._last_chunk(body, override)
        elif body.too_large:
            await self.push(TOO_LARGE)
        else:
            await self.push(f"250 2.0.0 Ok: {octets} octets received")

    def _no_bdat(self) -> str | None:
        if not self.greeted:
            return self._not_greeted()
        return None if self.envelope.rcpt_tos else NEED_RCPT

    async def _read_chunk(self, body: Chunks) -> bool:
        """Read the chunk. True if a rule has answered the message on the way: then no reply follows."""
        while self.chunk:
            data = await self._piece(min(CHUNK, self.chunk))
            self.chunk -= len(data)
            body.feed(data)
            self.host.feed(Heard(self.record.id))
            if await self._passed(body):
                return True
        return False

    async def _last_chunk(self, body: Chunks, override: ReplyOverride) -> None:
        """The message ends with this chunk; the reply to the chunk is the reply to the message."""
        if self.envelope.begun is not None:
            self.host.recorder.facts(self.envelope.begun, None)
        try:
            await self._complete(body, override)
        finally:
            self._reset_transaction()
