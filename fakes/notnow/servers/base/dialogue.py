"""A connection of commands and replies, for SMTP and FTP: it carries out the scripts of the engine.

A reply is in the journal before it is on the wire, and so is the close that follows it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import ClassVar, assert_never

from msgspec import Struct

from notnow.bounds import NONSENSE
from notnow.engine.actions import (
    Alert,
    AltSvc,
    Certify,
    Close,
    EndData,
    GoAway,
    Hang,
    Origin,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Script,
    Send,
    Wait,
    Watch,
)
from notnow.engine.events import Answered, Heard
from notnow.journal import (
    Exchange,
    NotUnderstood,
)
from notnow.servers.base.connection import LiveConnection
from notnow.servers.base.life import Over

LONG = 1024  # bytes of a reply that is made anew each time: a listing may have megabytes
_ERROR = re.compile(rb"(?:^|\n)([45][0-9][0-9])(?![0-9-])")


class Reply(Struct, frozen=True, gc=False):
    """Reply lines as they go out, as the journal has them, and the codes of the errors among them."""

    wire: bytes
    words: str
    errors: tuple[int, ...]


@lru_cache(maxsize=128)  # a server has few replies
def as_sent(text: bytes) -> Reply:
    """What becomes of reply lines without the last line end."""
    words = text.decode("utf-8", "replace").replace("\r\n", "\n")
    return Reply(text + b"\r\n", words, tuple(map(int, _ERROR.findall(text))))


@lru_cache(16)
def _goodbye(text: str, host: str) -> Reply:
    return as_sent(text.format(host=host).encode())


class ReplyOverride(Struct, frozen=True):
    """What a rule changes about a healthy reply: `instead` replaces its lines, `drip` is the seconds of scenario time
    between two bytes, `ending` closes the connection behind it.
    """

    instead: tuple[str, ...] | None = None
    drip: float = 0.0
    ending: bool = False


NO_OVERRIDE = ReplyOverride()
Effect = Callable[[ReplyOverride], Awaitable[None]]  # the healthy answer to a command


class CommandConnection(LiveConnection):
    """A live connection on which a client sends commands and the fake replies."""

    goodbye: ClassVar[str]  # the reply that clients get when the fake stops
    nonsense: int = 0  # commands in a row that were not understood
    watch: int | None = None  # bytes of the body or transfer until `Reached`
    _reply_lock: asyncio.Lock | None = None  # held while a reply drips: no other reply gets between its bytes

    @property
    def awaits_client(self) -> bool:
        return self.exchange.reply is not None

    # ---- doing what the engine says --------------------------------------------------------------

    async def perform(  # noqa: C901 (a case for each action)
        self, script: Script, exchange: Exchange, effect: Effect | None = None
    ) -> None:
        """Carry out a script. `effect` is the healthy answer; without a command there is none."""
        self.host.recorder.decided(exchange, script)
        for step in script.steps:
            self.still_here()
            match step:
                case Proceed(instead, drip):
                    assert not isinstance(instead, Response), "a response is HTTP's"
                    if effect is not None:
                        await effect(ReplyOverride(instead, drip, script.closes and instead != ()))
                case Send(lines, drip):
                    await self.say(reply_bytes(lines), exchange, drip, script.closes)
                case Wait(seconds):
                    await self.host.sleep(seconds)
                case Hang():
                    await self.hang(exchange)
                case Watch(size):
                    self.watch = size
                case EndData():
                    self.end_data(step, exchange)
                case Close(how):
                    self.finish(how, exchange)
                    raise Over
                case Certify() | Alert() | Respond() | ResetStream() | GoAway() | AltSvc() | Origin():
                    raise AssertionError(f"{step} is for a handshake, or for HTTP")
                case _:
                    assert_never(step)

    def end_data(self, step: EndData, exchange: Exchange) -> None:
        """End the data connection, in a protocol that has one."""
        raise AssertionError(f"there is no data connection for {step} at {exchange.moment}")

    # ---- when the fake stops ---------------------------------------------------------------------

    def stop_serving(self) -> None:
        """Read no more commands: the last reply has been sent."""

    def dismiss(self) -> bool:
        if self._reply_lock is not None and self._reply_lock.locked():  # a reply still drips
            return self.over
        return super().dismiss()

    def say_goodbye(self, exchange: Exchange) -> bool:
        """A server that is shut down says 421 before it closes (RFC 5321 §3.8, RFC 959 §4.2.1)."""
        self._write(_goodbye(self.goodbye, self.host.hostname), exchange, True)
        self.finish("fin", exchange)
        self.stop_serving()
        return True

    # ---- saying ----------------------------------------------------------------------------------

    async def say(self, text: bytes, exchange: Exchange, drip: float = 0.0, ending: bool = False) -> None:
        """Send reply lines, `drip` seconds of scenario time between two bytes; `ending`: the fake closes behind it."""
        reply = as_sent(text) if len(text) < LONG else as_sent.__wrapped__(text)
        if drip or self._reply_lock is not None:
            await self._drip(reply, exchange, drip, ending)
        else:
            self._write(reply, exchange, ending)
        if reply.errors and exchange.moment != "error":
            await self._erred(reply, exchange)

    async def _erred(self, reply: Reply, exchange: Exchange) -> None:
        """A 4yz or 5yz has been sent: a rule may add something."""
        for code in reply.errors:
            script = self.host.feed(Answered(self.record.id, code, self.verb(exchange)), "error")
            if script is not None:
                added = self.host.recorder.ask(self.record, "error", "", script.phase)
                await self.perform(script, added)

    def floods(self) -> bool:
        """Count a command that was not understood. True if the client has reached the limit."""
        self.nonsense += 1
        if self.nonsense > NONSENSE:
            self.host.recorder.failed(self.record, NotUnderstood(NONSENSE))
        return self.nonsense > NONSENSE

    def verb(self, exchange: Exchange) -> str:
        """The command that an exchange is about, in upper case."""
        return exchange.request.partition(" ")[0].upper()

    def _write(self, reply: Reply, exchange: Exchange, ending: bool = False) -> None:
        if not self.life.fake.speaks:
            raise Over
        self._note(reply, exchange, ending)
        self.transport.write(reply.wire)

    def _note(self, reply: Reply, exchange: Exchange, ending: bool) -> None:
        if ending:
            self.host.recorder.end(exchange)
        self.host.recorder.answer(exchange, reply.words)
        if ending:
            self.decided()

    async def _drip(self, reply: Reply, exchange: Exchange, pause: float, ending: bool) -> None:
        self._reply_lock = self._reply_lock or asyncio.Lock()
        async with self._reply_lock:
            if not pause:
                self._write(reply, exchange, ending)
                return
            self.still_here()
            self._note(reply, exchange, ending)
            for i, byte in enumerate(reply.wire):
                if i:
                    await self.host.sleep(pause)
                if not self.alive:
                    raise Over
                self.host.feed(Heard(self.record.id))  # a client waiting for our reply is not idle
                self.transport.write(bytes([byte]))
            self.host.recorder.answered(exchange)


def reply_bytes(lines: tuple[str, ...]) -> bytes:
    """The bytes of reply lines, without the last line end."""
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")
