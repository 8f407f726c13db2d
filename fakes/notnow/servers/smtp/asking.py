"""How an SMTP session asks the engine about a command, and replies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from notnow.engine.actions import Script
from notnow.engine.events import NOTHING, Asked, Ended, Facts
from notnow.journal import Exchange
from notnow.journal import Facts as KnownFacts
from notnow.servers.base.dialogue import NO_OVERRIDE, ReplyOverride, reply_bytes
from notnow.servers.base.life import Over
from notnow.servers.smtp.connection import SMTPConnection


class Asking(SMTPConnection):
    """A session that asks the engine before it acts."""

    override: ReplyOverride = NO_OVERRIDE  # for the next healthy reply
    goodbye = "421 4.3.2 {host} Service not available, closing transmission channel"

    def _ask(
        self,
        moment: str,
        request: str,
        effect: Callable[[], Awaitable[None]],
        facts: Facts = NOTHING,
        known: KnownFacts | None = None,
    ) -> Awaitable[None]:
        """Ask about a command or a point of the protocol; await the answer. `known` is for the journal.

        `effect` is everything that happens if no rule refuses, the rest of the command included: RuntimeError if the
        session asks or answers again for the same line.
        """
        if self.answered_at is not None:
            raise self._out_of_turn(f"asks at {moment!r}")
        host, record = self.host, self.record
        exchange = self.exchange = host.recorder.ask(record, moment, request, host.phase)
        self.arrivals.stamp(exchange, len(self._inbox))
        if known is not None:
            host.recorder.facts(exchange, known)
        if host.behaves(record.id, moment, facts, exchange.at):  # nearly always
            self.still_here()
            self.override = NO_OVERRIDE
            return effect()
        script = host.feed(Asked(record.id, moment, facts), moment)
        if script is None:  # the engine has closed the connection: a time-out was due
            raise Over
        return self._perform(script, exchange, effect)

    async def _perform(self, script: Script, exchange: Exchange, effect: Callable[[], Awaitable[None]]) -> None:
        self.answered_at = exchange.moment

        async def behave(override: ReplyOverride) -> None:
            self.override, self.answered_at = override, None
            await effect()
            self.override = NO_OVERRIDE

        await self.perform(script, exchange, behave)

    def _out_of_turn(self, what: str) -> RuntimeError:
        return RuntimeError(
            f"the session {what} after a rule has answered at {self.answered_at!r}: "
            f"what follows {self.answered_at!r} belongs into the effect of its _ask"
        )

    def push(self, status: str | bytes) -> Coroutine[Any, Any, None]:
        """Send a healthy reply, or the one that a rule has put in its place. Every healthy reply comes through here."""
        if self.answered_at is not None:
            raise self._out_of_turn("replies")
        text = status.encode("utf-8", "surrogateescape") if isinstance(status, str) else status
        override = self.override
        if override.instead is not None:
            self.override = replace(override, instead=())
            if not override.instead:
                return _nothing()
            text = reply_bytes(override.instead)
        return self.say(text, self.exchange, override.drip, override.ending)

    @property
    def insisted(self) -> bool:
        """True if a rule answers the command and lets it take effect: our own checks do not refuse it."""
        return self.override.instead is not None

    def _stands(self, refusal: str | None) -> str | None:
        """A refusal of our own; None if there is none, or a rule insists on the command."""
        return None if self.insisted else refusal

    def verb(self, exchange: Exchange) -> str:
        return super().verb(exchange) if exchange.moment != "auth" else "AUTH"

    def _reset_transaction(self) -> None:
        begun = self.envelope.mail_from is not None
        self._set_rset_state()
        self.watch = None
        if begun:
            self.host.feed(Ended(self.record.id, "mail"))


async def _nothing() -> None:
    """Nothing is to be sent."""
