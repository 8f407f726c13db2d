"""Asking the engine about a command of a client, carrying out its script, and sending replies."""

# ruff: noqa: ARG002 (the arguments of pyftpdlib's methods)
from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from functools import lru_cache, partial
from typing import Any

from notnow.engine.actions import BEHAVE, Script
from notnow.engine.events import Answered, Asked, Facts
from notnow.journal import Exchange, Target, Transfer
from notnow.servers.base.dialogue import LONG, ReplyOverride, reply_bytes
from notnow.servers.base.life import Over
from notnow.servers.ftp.connection import FTPConnection

# Work that waits. A `Continuation` returns the replies that are still to be sent.
Work = Callable[[], Coroutine[Any, Any, object]]
Continuation = Callable[[], Coroutine[Any, Any, Sequence[bytes]]]
# The healthy answer to a command. It sends replies through `respond`, and returns the part that has to wait, if any.
HealthyAction = Callable[[], Continuation | None]
_UNSAID = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]|\r(?!\n)|(?<!\r)\n")  # controls, but no line ends


class Asking(FTPConnection):
    """The part of a session between a command and its replies."""

    busy: int = 0  # the number of tasks that the next command has to wait for
    answers: list[bytes] | None = None  # the healthy replies that are gathered for a rule
    _lines: str = ""  # the first lines of a reply whose last line is still to come
    _working: tuple[asyncio.Task[None], ...] = ()

    # ---- asking the engine, and doing what it says -----------------------------------------------

    def _ask(
        self, moment: str, request: str, healthy: HealthyAction, facts: Facts, known: Transfer | Target | None = None
    ) -> None:
        """Ask the engine about a command and carry out its script. `healthy` is the healthy answer, `known` is for the journal."""
        host, record = self.host, self.record
        exchange = self.exchange = host.recorder.ask(record, moment, request, host.phase)
        self.arrivals.stamp(exchange, len(self._inbox))
        if known is not None:
            host.recorder.facts(exchange, known)
        if host.behaves(record.id, moment, facts, exchange.at):  # nearly always
            self._behave(exchange, healthy)
            return
        script = host.feed(Asked(record.id, moment, facts), moment)
        if script is not None:  # None: the engine has closed the connection, since a time-out was due
            self._carry_out(script, exchange, healthy)

    def _carry_out(self, script: Script, exchange: Exchange, healthy: HealthyAction) -> None:
        if script.steps is not BEHAVE:
            self.take_time(partial(self._perform, script, exchange, healthy))
            return
        self.host.recorder.decided(exchange, script)
        self._behave(exchange, healthy)

    def _behave(self, exchange: Exchange, healthy: HealthyAction) -> None:
        if (rest := healthy()) is not None:
            self.take_time(partial(self._as_usual, rest, exchange))

    async def _as_usual(self, rest: Continuation, exchange: Exchange) -> None:
        for text in await rest():
            await self.say(text, exchange)

    async def _perform(self, script: Script, exchange: Exchange, healthy: HealthyAction) -> Sequence[bytes]:
        """Carry out the script of a rule. Healthy replies are gathered, and sent as the rule wants them."""

        async def behave(override: ReplyOverride) -> None:
            answers, rest = self.gather(healthy)
            for text in answers:
                override = await self._answer(text, exchange, override)
            for text in () if rest is None else await rest():
                override = await self._answer(text, exchange, override)

        await self.perform(script, exchange, behave)
        return ()

    def take_time(self, work: Work) -> None:
        """Do work that waits; the next command is read when it is done."""
        self.busy += 1
        task = self.host.spawn(self._work(work))
        self._working = (*self._working, task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working = tuple(other for other in self._working if other is not task)

    async def _work(self, work: Work) -> None:
        try:
            await work()
        except Over:
            pass
        except Exception as error:
            if not self.is_lost(error):
                self.break_off(error)
        self.busy -= 1
        self.serve()

    # ---- replies ---------------------------------------------------------------------------------

    def push(self, data: str) -> None:
        self._lines += data

    def push_with_producer(self, producer: Any) -> None:
        self._lines += b"".join(iter(producer.more, b"")).decode("utf-8", "replace")

    def respond(self, resp: str, logfun: object = None) -> None:
        """Send a healthy reply, or gather it for a rule. Every healthy reply comes through here."""
        text = resp
        if self._lines:
            text, self._lines = self._lines + resp, ""
        if self.answers is not None and text[0] != "1":  # a 1yz before a transfer is never replaced
            self.answers.append(_without_controls(text).encode())
        else:
            self.say_at_once(text, self.exchange)

    def respond_w_warning(self, resp: str) -> None:
        self.respond(resp)

    def say_at_once(self, text: str, exchange: Exchange) -> None:
        """Send a reply that no rule has changed."""
        transport = self.transport
        if not self.life.fake.speaks or transport.is_closing():
            return
        if self._reply_lock is not None and self._reply_lock.locked():  # another reply still drips
            self.take_time(partial(self.say, text.encode(), exchange))
            return
        words, wire = _as_said(text) if len(text) < LONG else _as_said.__wrapped__(text)
        self.host.recorder.answer(exchange, words)
        transport.write(wire)
        if text[0] in "45":
            script = self.host.feed(Answered(self.record.id, int(text[:3]), self.verb(exchange)), "error")
            if script is not None:
                added = self.host.recorder.ask(self.record, "error", "", script.phase)
                self.take_time(partial(self.perform, script, added))

    async def _answer(self, text: bytes, exchange: Exchange, override: ReplyOverride) -> ReplyOverride:
        """Send a healthy reply as a rule wants it. A replacement stands for all replies that follow, too."""
        if override.instead == ():
            return override
        text = text if override.instead is None else reply_bytes(override.instead)
        await self.say(text, exchange, override.drip, override.ending)
        return override if override.instead is None else ReplyOverride((), override.drip, override.ending)

    def gather(self, healthy: Callable[[], Any]) -> tuple[list[bytes], Any]:
        """Do something. Return its replies, which are not sent, and its result."""
        before, self.answers = self.answers, []
        try:
            given = healthy()
        finally:
            answers, self.answers = self.answers, before
        return answers, given


def _without_controls(text: str) -> str:
    """pyftpdlib repeats what it has not understood: a control character in it would be a line, or a colour, of the client's."""
    return text if text.isprintable() else _UNSAID.sub("?", text)


@lru_cache(maxsize=128)  # a server has few replies
def _as_said(text: str) -> tuple[str, bytes]:
    """A healthy reply as the journal has it, and as it goes out."""
    text = _without_controls(text)
    return text.replace("\r\n", "\n"), f"{text}\r\n".encode("utf-8", "replace")
