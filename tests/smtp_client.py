"""SMTP clients for tests: `Raw` says what it is told to, byte by byte, and `CarefulSender` does what RFC 5321 asks."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from typing import Self

from notnow import FakeSMTP, Scenario
from notnow.scenario import loads

PATIENCE = 20.0  # real seconds after which a socket gives up: only a bug takes as long
MESSAGE = b"From: a@client.test\r\nTo: b@server.test\r\nSubject: hello\r\nMessage-ID: <1@client.test>\r\n\r\nhello\r\n"


def one(on: str | list[str], **keys: object) -> str:
    """The TOML of one rule: `one("mail", reply="421 no")`."""
    return "[[phase.rule]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in {"on": on, **keys}.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def rules(*texts: str, head: str = "", phase: str = "") -> Scenario:
    """A scenario of these rules. `head` stands above its phase and `phase` in it; a text may begin further phases."""
    return loads("\n".join(['protocol = "smtp"', head, '[[phase]]\nname = "one"', phase, *texts]), name="test")


def then(name: str, *texts: str, **keys: object) -> str:
    """The TOML of a further phase."""
    return "\n".join([f'[[phase]]\nname = "{name}"', *(f"{k} = {_toml(v)}" for k, v in keys.items()), *texts])


def trusting(fake: FakeSMTP) -> ssl.SSLContext:
    """A client's context that trusts this fake's CA."""
    return ssl.create_default_context(cafile=fake.ca_file)


class Raw:
    """A connection to a fake that says what it is told to and reads replies, or what comes instead."""

    def __init__(self, fake: FakeSMTP, *, tls: ssl.SSLContext | None = None, name: str = "localhost") -> None:
        self.sock: socket.socket = socket.create_connection((fake.host, fake.port), timeout=PATIENCE)
        with contextlib.suppress(OSError):  # reset already
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        if tls is not None:
            self.wrap(tls, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the connection ------------------------------------------------------------------------

    def wrap(self, context: ssl.SSLContext, name: str | None = "localhost") -> None:
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=name)
        except BaseException:
            self.close()
            raise

    def starttls(self, context: ssl.SSLContext, name: str | None = "localhost") -> Self:
        assert self.say("STARTTLS").startswith("220")
        self.wrap(context, name)
        return self

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Leave with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # ---- saying --------------------------------------------------------------------------------

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data.encode() if isinstance(data, str) else data)

    def say(self, line: str) -> str:
        """Send a line and read its reply."""
        self.send(line + "\r\n")
        return self.reply()

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

    # ---- reading -------------------------------------------------------------------------------

    def line(self) -> str:
        """The next line without its end. Raises EOFError at the end, and OSError for a reset."""
        while b"\r\n" not in self.buffer:
            self._more()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode()

    def reply(self) -> str:
        """The next reply, its lines joined by newlines."""
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        return "\n".join(lines)

    def replies(self, n: int) -> list[str]:
        return [self.reply() for _ in range(n)]

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self.buffer)
        self.buffer += data

    def until_end(self) -> str:
        """Everything until the end. Raises OSError where a reset comes instead."""
        with contextlib.suppress(EOFError):
            while True:
                self._more()
        return self.buffer.decode()

    @property
    def ended(self) -> bool:
        """True if the next thing to read is the end."""
        return not self.buffer and self.sock.recv(1) == b""

    def silent(self) -> bool:
        """True if nothing has come. Only after something else has proved that it would have."""
        self.sock.setblocking(False)
        try:
            self.buffer += self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return not self.buffer
        finally:
            self.sock.settimeout(PATIENCE)
        return False


class Gone(Exception):
    """The connection ended before the reply."""


class CarefulSender:
    """A small sender that does what RFC 5321 asks: it queues, waits, and tries again until the server has the mail.

    `wait(seconds)` is how it waits between tries. A 4yz, a lost connection and a broken handshake are to be
    tried again; a 5yz is final. A reply to an earlier command is never taken for the answer to a later one.
    """

    def __init__(
        self, fake: FakeSMTP, wait: Callable[[float], object], *, tls: ssl.SSLContext | None = None,
        user: str = "", password: str = "", first: float = 5.0, most: int = 12,
    ) -> None:  # fmt: skip
        self.fake, self.wait, self.tls = fake, wait, tls
        self.user, self.password = user, password
        self.first, self.most = first, most
        self.failed: list[str] = []  # final refusals

    def send(
        self, content: bytes = MESSAGE, sender: str = "a@client.test", recipients: Iterable[str] = ("b@server.test",)
    ) -> bool:
        """Try until it is taken, finally refused, or tried often enough. True if it was taken."""
        delay = self.first
        for _ in range(self.most):
            code = self.attempt(content, sender, list(recipients))
            if code == 250:
                return True
            if 500 <= code < 600:
                return False
            self.wait(delay)
            delay *= 2
        return False

    def attempt(self, content: bytes, sender: str, recipients: list[str]) -> int:
        """One connection, one transaction: the code that settled it, 0 for a lost connection."""
        try:
            with Raw(self.fake, tls=self.tls if self.fake.tls == "implicit" else None) as raw:
                return self._session(raw, content, sender, recipients)
        except (EOFError, OSError):
            return 0

    def _session(self, raw: Raw, content: bytes, sender: str, recipients: list[str]) -> int:
        steps: list[tuple[str, int]] = [("", 2), ("EHLO client.test", 2)]
        for line, wanted in steps:
            if (code := self._ask(raw, line)) // 100 != wanted:
                return self._leave(raw, code)
        if self.fake.tls == "starttls" and self.tls is not None:
            if (code := self._ask(raw, "STARTTLS")) != 220:
                return self._leave(raw, code if code < 500 else 450)
            raw.wrap(self.tls)
            if (code := self._ask(raw, "EHLO client.test")) != 250:
                return self._leave(raw, code)
        if self.user and (code := self._ask(raw, f"AUTH PLAIN {plain(self.user, self.password)}")) != 235:
            return self._leave(raw, code)
        lines = [f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{r}>" for r in recipients), "DATA"]
        for line in lines:
            if (code := self._ask(raw, line)) // 100 not in (2, 3):
                return self._leave(raw, code)
        raw.send(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
        return self._leave(raw, self._code(raw.reply()))

    def _ask(self, raw: Raw, line: str) -> int:
        return self._code(raw.say(line) if line else raw.reply())

    def _code(self, reply: str) -> int:
        if reply[0] == "5":
            self.failed.append(reply)
        return int(reply[:3])

    def _leave(self, raw: Raw, code: int) -> int:
        if code != 421:
            with contextlib.suppress(EOFError, OSError):
                raw.say("QUIT")
        return code


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()
