"""FTP clients for tests: `Raw` says what it is told to, `CarefulTransfer` does what RFC 959 and RFC 1123 §4.1 ask."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from notnow import FakeFTP
from raw_connection import PATIENCE, RawConnection, Refused, trusting, wrapped

__all__ = ["CarefulTransfer", "Data", "Job", "Raw", "Refused", "trusting"]


class Raw(RawConnection):
    """A control connection to a fake that says what it is told to, and opens data connections."""

    private: ssl.SSLContext | None = None  # what data connections are protected with (PROT P)

    def login(self, user: str = "anonymous", password: str = "guest@client.test") -> Self:
        """Read the greeting, log in, and ask for TYPE I."""
        assert (greeting := self.reply()).startswith("220"), greeting
        assert (reply := self.say(f"USER {user}")).startswith("331"), reply
        assert (reply := self.say(f"PASS {password}")).startswith("230"), reply
        assert self.say("TYPE I").startswith("200")
        return self

    def auth_tls(self, context: ssl.SSLContext, name: str | None = "localhost") -> Self:
        """AUTH TLS, and data connections in TLS too. To be said after the greeting."""
        assert self.say("AUTH TLS").startswith("234")
        self.wrap(context, name)
        assert self.replies_to("PBSZ 0", "PROT P") == ["200", "200"]
        self.private = context
        return self

    def replies_to(self, *lines: str) -> list[str]:
        """Send lines, one after the other; the codes of their replies."""
        return [self.say(line)[:3] for line in lines]

    def data(self, way: str = "PASV", heard: list[str] | None = None) -> Data:
        """A way to a data connection, with PASV, EPSV, PORT or EPRT; see `Data`. `heard` gets the reply."""
        return Data(self, way, heard)

    def store(self, name: str, content: bytes, verb: str = "STOR", way: str = "PASV") -> str:
        """A whole upload; the reply to it."""
        with self.data(way) as data:
            assert (reply := self.say(f"{verb} {name}"))[0] == "1", reply
            data.open()
            data.send(content)
            data.finish()
            return self.reply()

    def retrieve(self, name: str, verb: str = "RETR", way: str = "PASV") -> tuple[bytes, str]:
        """A whole download, or a listing; and the reply to it."""
        with self.data(way) as data:
            assert (reply := self.say(f"{verb} {name}"))[0] == "1", reply
            data.open()
            return data.everything(), self.reply()


class Data:
    """A data connection, or a way to one: in passive mode it is made at once, in active mode by `open`.

    In passive mode it is the control connection's host that is connected to, whatever the reply to PASV says: many
    servers behind a NAT name an address that nobody can reach. Raises Refused and OSError.
    """

    def __init__(self, raw: Raw, way: str, heard: list[str] | None = None) -> None:
        self._raw, self._sock, self._listener = raw, None, None
        if way in ("PORT", "EPRT"):
            self._listener = socket.create_server((raw.sock.getsockname()[0], 0))
            self._listener.settimeout(raw.patience)
        try:
            reply = raw.say(self._line(way))
            if heard is not None:
                heard.append(reply)
            if reply[0] != "2":
                raise Refused(int(reply[:3]))
            if self._listener is None:
                self._sock = socket.create_connection((raw.sock.getpeername()[0], _port(reply)), raw.patience)
        except BaseException:
            self.close()
            raise

    def _line(self, way: str) -> str:
        if self._listener is None:
            return way
        host, port = self._listener.getsockname()[:2]
        if way == "EPRT":
            return f"EPRT |1|{host}|{port}|"
        return f"PORT {host.replace('.', ',')},{port // 256},{port % 256}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> socket.socket:
        """The connection, once the server has said 1yz to the transfer."""
        if self._sock is None:
            assert self._listener is not None
            self._sock, _ = self._listener.accept()
            self._sock.settimeout(self._raw.patience)
        if self._raw.private is not None:
            self._sock = wrapped(self._sock, self._raw.private, "localhost")
        return self._sock

    def everything(self, into: bytearray | None = None) -> bytes:
        """All that comes, until the end. What came before an error is in `into`."""
        assert self._sock is not None
        into = bytearray() if into is None else into
        while piece := self._sock.recv(65536):
            into += piece
        return bytes(into)

    def send(self, content: bytes | bytearray) -> None:
        assert self._sock is not None
        self._sock.sendall(content)

    def finish(self) -> None:
        """The end of an upload."""
        assert self._sock is not None
        if isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):  # the server need not say goodbye
                self._sock = self._sock.unwrap()
        self._sock.close()

    def close(self) -> None:
        for sock in (self._sock, self._listener):
            if sock is not None:
                sock.close()


def _port(reply: str) -> int:
    """The port in the reply to PASV or EPSV."""
    if extended := re.search(r"\(\|\|\|(\d+)\|\)", reply):
        return int(extended[1])
    numbers = re.search(r"\d+,\d+,\d+,\d+,(\d+),(\d+)", reply)
    assert numbers, reply
    return int(numbers[1]) * 256 + int(numbers[2])


@dataclass
class Job:
    """A file to get or to put. `content` is what has come, or what is to be sent."""

    verb: str
    name: str
    content: bytes | bytearray = b""
    tried: bool = False
    failed: int = 0  # the 5yz that has settled it

    @property
    def is_upload(self) -> bool:
        return self.verb in ("STOR", "APPE", "STOU")


class CarefulTransfer:
    """A small client that tries again from the start (RFC 959 §4.2.1) until every file is through, and none twice.

    `wait(seconds)` is how it waits between tries. A 4yz, a lost connection and a broken handshake are to be tried
    again; so is a login, whatever refuses it, and a 5yz is final for its transfer. After a 421 it says nothing more on
    that connection. What is there already is not sent again: it asks how much that is (SIZE), and goes on from there
    (REST). `ways` to a data connection are taken in turn, the next one where one has failed. With `tls` nothing is
    said in clear text. `dawdle` is what it does once, after its first login or (`dawdle_at`) amid its first upload, and
    `chatty` has it say more than it must.
    """

    def __init__(
        self, fake: FakeFTP, wait: Callable[[float], object], *, tls: ssl.SSLContext | None = None,
        user: str = "anonymous", password: str = "guest@client.test", first: float = 5.0, most: int = 12,
        patience: float = PATIENCE, ways: tuple[str, ...] = ("PASV", "EPSV", "PORT"), chatty: bool = False,
        dawdle: Callable[[], object] | None = None, dawdle_at: str = "login",
    ) -> None:  # fmt: skip
        self.fake, self.wait, self.tls, self.user, self.password = fake, wait, tls, user, password
        self.first, self.most, self.patience, self.chatty = first, most, patience, chatty
        self.dawdle, self.dawdle_at, self.ways = dawdle, dawdle_at, list(ways)
        self.heard: list[str] = []  # every reply
        self.lost: list[BaseException] = []  # connections that ended without one

    def transfer(self, *jobs: Job) -> bool:
        """Try until all is through or finally refused, or it was tried often enough. True if nothing is left."""
        queue, delay = list(jobs), self.first
        for _ in range(self.most):
            self._session(queue)
            if not queue:
                return True
            self.wait(delay)
            delay = min(delay * 2, 3600)
        return False

    def _session(self, queue: list[Job]) -> None:
        """One connection: whatever is settled leaves the queue."""
        try:
            with Raw(self.fake, patience=self.patience) as raw:
                try:
                    self._begin(raw)
                    self._work(raw, queue)
                except Refused as refused:
                    if refused.code == 421:
                        self._hang_up(raw)
                        return
                self._ask(raw, "QUIT", any_code=True)
        except (EOFError, OSError) as error:
            self.lost.append(error)

    def _begin(self, raw: Raw) -> None:
        if self.tls is not None and self.fake.tls == "implicit":
            raw.wrap(self.tls)
        self._ask(raw)
        if self.tls is not None and self.fake.tls == "starttls":
            self._ask(raw, "AUTH TLS")
            raw.wrap(self.tls)
        self._ask(raw, f"USER {self.user}")
        self._ask(raw, f"PASS {self.password}")
        if self.tls is not None:
            self._ask(raw, "PBSZ 0")
            self._ask(raw, "PROT P")
            raw.private = self.tls
        self._ask(raw, "TYPE I")
        self._dawdle("login")
        for line in ("NOOP", "CWD /", "PWD", "SIZE small.txt", "REST 0") if self.chatty else ():
            self._ask(raw, line)

    def _dawdle(self, at: str) -> None:
        if self.dawdle is not None and self.dawdle_at == at:
            self.dawdle, dawdle = None, self.dawdle
            dawdle()

    def _hang_up(self, raw: Raw) -> None:
        """Say nothing more, and hear whether there was more to a 421 than its first reply."""
        if not isinstance(raw.sock, ssl.SSLSocket):
            raw.sock.shutdown(socket.SHUT_WR)
            self.heard += raw.until_end().splitlines()

    def _work(self, raw: Raw, queue: list[Job]) -> None:
        while queue:
            job = queue[0]
            try:
                self._do(raw, job)
            except Refused as refused:
                if refused.code < 500:
                    raise
                job.failed = refused.code
            queue.remove(job)

    def _do(self, raw: Raw, job: Job) -> None:
        there = self._there(raw, job)
        if job.is_upload and job.tried and there == len(job.content):
            return
        job.tried, there = True, there or 0
        with self._data(raw) as data:
            if there and job.verb in ("RETR", "STOR"):
                self._ask(raw, f"REST {there}")
            begun = self._ask(raw, f"{job.verb} {job.name}" if job.verb != "STOU" else "STOU")
            if name := re.search(r"FILE: (\S+)", begun):  # RFC 1123 §4.1.2.9: the name that the server has chosen
                job.verb, job.name = "STOR", name[1]
            with contextlib.suppress(OSError):  # the reply says what has become of it
                data.open()
                self._move(data, job, there)
            self._ask(raw)

    def _there(self, raw: Raw, job: Job) -> int | None:
        """How much of it is where it is to be; None if nothing is, not even its name."""
        if not job.is_upload:
            return len(job.content)
        if not job.tried or not job.name:
            return None
        reply = self._ask(raw, f"SIZE {job.name}", any_code=True)
        if reply[:3] == "421":
            raise Refused(421)
        return int(reply[4:]) if reply.startswith("213") else None

    def _data(self, raw: Raw) -> Data:
        try:
            return raw.data(self.ways[0], self.heard)
        except (Refused, OSError):
            self._turn()
            raise

    def _move(self, data: Data, job: Job, there: int) -> None:
        if job.is_upload:
            half = (there + len(job.content)) // 2
            data.send(job.content[there:half])
            self._dawdle("upload")
            data.send(job.content[half:])
            data.finish()
        else:
            job.content = bytearray(job.content)
            data.everything(job.content)

    def _turn(self) -> None:
        """The next way to a data connection."""
        self.ways.append(self.ways.pop(0))

    def _ask(self, raw: Raw, line: str = "", any_code: bool = False) -> str:
        if line:
            raw.send(line + "\r\n")
        reply = raw.reply()
        self.heard.append(reply)
        code = int(reply[:3])
        if code == 425:
            self._turn()
        if code >= 400 and not any_code:
            raise Refused(code)
        return reply
