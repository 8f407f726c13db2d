"""SMTP clients for tests: `Raw` says what it is told to, byte by byte, and `CarefulSender` does what RFC 5321 asks."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Callable
from typing import Self

from notnow import FakeSMTP
from raw_connection import PATIENCE, RawConnection, Refused, trusting
from toml_rules import one, rules, then

__all__ = ["MESSAGE", "PATIENCE", "CarefulSender", "Raw", "Refused", "one", "plain", "rules", "then", "trusting"]

MESSAGE = b"From: a@client.test\r\nTo: b@server.test\r\nSubject: hello\r\nMessage-ID: <1@client.test>\r\n\r\nhello\r\n"


class Raw(RawConnection):
    """A connection to a fake that says what it is told to and reads replies, or what comes instead."""

    def starttls(self, context: ssl.SSLContext, name: str | None = "localhost") -> Self:
        assert self.say("STARTTLS").startswith("220")
        self.wrap(context, name)
        return self

    def hello(self) -> Self:
        """Read the greeting and say EHLO."""
        greeting = self.reply()
        assert greeting.startswith("220"), greeting
        assert self.say("EHLO client.test").startswith("250")
        return self

    def mail(self, sender: str = "a@client.test", *recipients: str) -> Self:
        """MAIL, RCPT and DATA, all of them taken."""
        assert self.say(f"MAIL FROM:<{sender}>").startswith("250")
        for recipient in recipients or ("b@server.test",):
            assert self.say(f"RCPT TO:<{recipient}>").startswith("250")
        assert self.say("DATA").startswith("354")
        return self

    def deliver(self, content: bytes = MESSAGE, sender: str = "a@client.test", *recipients: str) -> str:
        """A whole mail transaction; the reply to its final dot."""
        self.mail(sender, *recipients)
        self.send(content + b".\r\n")
        return self.reply()


class CarefulSender:
    """A small sender that does what RFC 5321 asks: it queues, waits, and tries again until the server has the mail.

    `wait(seconds)` is how it waits between tries. A 4yz, a lost connection and a broken handshake are to be tried
    again; a 5yz is final for its message. After a 421 it says nothing more on that connection. With `tls` it sends
    nothing in clear text. `dawdle` is what it does once after its first EHLO.
    """

    def __init__(
        self, fake: FakeSMTP, wait: Callable[[float], object], *, tls: ssl.SSLContext | None = None, user: str = "",
        first: float = 5.0, most: int = 12, per_connection: int = 100, patience: float = PATIENCE,
        chatty: bool = False, dawdle: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        self.fake, self.wait, self.tls, self.user = fake, wait, tls, user
        self.first, self.most, self.per_connection, self.patience = first, most, per_connection, patience
        self.chatty, self.dawdle = chatty, dawdle
        self.heard: list[str] = []  # every reply
        self.lost: list[BaseException] = []  # connections that ended without one
        self.code = 0  # what settled the last transaction

    def deliver(self, *contents: bytes) -> bool:
        """Try until all is taken or finally refused, or it was tried often enough. True if nothing is left."""
        queue, delay = list(contents), self.first
        for _ in range(self.most):
            self._connect(queue)
            if not queue:
                return True
            self.wait(delay)
            delay = min(delay * 2, 3600)
        return False

    def attempt(self, content: bytes = MESSAGE) -> int:
        """One connection, one transaction: the code that settled it, 0 for a lost connection."""
        self._connect([content])
        return self.code

    def _connect(self, queue: list[bytes]) -> None:
        """One connection: whatever is settled leaves the queue."""
        self.code = 0
        try:
            with Raw(self.fake, patience=self.patience) as raw:
                try:
                    self._begin(raw)
                    self._send(raw, queue)
                except Refused as refused:
                    self.code = refused.code
                if self.code != 421:
                    self._ask(raw, "QUIT", any_code=True)
        except (EOFError, OSError) as error:
            self.lost.append(error)

    def _begin(self, raw: Raw) -> None:
        if self.tls is not None and self.fake.tls == "implicit":
            raw.wrap(self.tls)
        self._ask(raw, "")
        self._ask(raw, "EHLO client.test")
        if self.dawdle is not None:
            self.dawdle, dawdle = None, self.dawdle
            dawdle()
        if self.tls is not None and self.fake.tls == "starttls":
            self._ask(raw, "STARTTLS")
            raw.wrap(self.tls)
            self._ask(raw, "EHLO client.test")
        if self.user:
            self._ask(raw, f"AUTH PLAIN {plain(self.user, 'word')}")
        for line in ("NOOP", "RSET") if self.chatty else ():
            self._ask(raw, line)

    def _send(self, raw: Raw, queue: list[bytes]) -> None:
        for content in queue[: self.per_connection]:
            try:
                for line in ("MAIL FROM:<a@client.test>", "RCPT TO:<b@server.test>", "DATA"):
                    self._ask(raw, line)
                raw.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
                self._ask(raw, "")
            except Refused as refused:
                if refused.code >= 500:
                    queue.remove(content)
                elif refused.code == 421:
                    raise
                self.code = refused.code
                self._ask(raw, "RSET")
            else:
                queue.remove(content)
                self.code = 250

    def _ask(self, raw: Raw, line: str, any_code: bool = False) -> None:
        if line:
            raw.send(line + "\r\n")
        reply = raw.reply()
        self.heard.append(reply)
        if reply[0] not in "23" and not any_code:
            raise Refused(int(reply[:3]))


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()
