"""Generated clients over real sockets: the verdict on each has to be the one that it gets without sockets."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType
from typing import Any

from tests.truth import ftp, http, smtp
from tests.truth.properties import Judged
from tests.truth.sockets import LATE, QUIET, SocketLine, SocketWire
from tests.truth.wire import ROUND_TRIP, Reply

from http_client import H2
from notnow.journal import Connection, Transfer

_RACES = frozenset({"http.whole-body-again"})  # a body comes before the reset that refuses it, or after it


class SocketPlay:
    """A module of `tests.truth` that plays over sockets."""

    def __init__(self, protocol: str) -> None:
        self.protocol, self.module = protocol, import_module(f"tests.truth.{protocol}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def play(self, program: Any, scenario: str) -> tuple[Any, Any]:
        line, client = _OVER_SOCKETS[self.protocol]
        wire = SocketWire(scenario, self.protocol, line)
        try:
            return wire, client(program, wire).play()
        finally:
            wire.fake.stop()


def can_play(program: Any, scenario: str) -> bool:
    """True if the order of events over sockets is the one without.

    A client that waits for a late reply would have to move the clock meanwhile, and the order in which sockets of several
    workers are heard is the system's.
    """
    return "delay" not in scenario and program.workers == 1


def differences(protocol: str, program: Any, scenario: str) -> Iterator[str]:
    """What differs between the verdicts over sockets and without."""
    if protocol == "http":
        program = replace(program, host="localhost")
    module: ModuleType = import_module(f"tests.truth.{protocol}")
    plain, real = Judged(module, program, scenario), Judged(SocketPlay(protocol), program, scenario)  # type: ignore[arg-type]
    for name, outcome in plain.outcomes.items():
        if name not in _RACES and real.outcomes.get(name) != outcome:
            yield f"{name}: {outcome} without sockets, {real.outcomes.get(name)} over sockets"


# ---- SMTP ----------------------------------------------------------------------------------------


class MailLine(SocketLine):
    """A connection of a mail client; `content` is the message that it sends next."""

    content: bytes = b""

    def _kept(self) -> int:
        return len(self.wire.fake.messages)

    def _words(self, moment: str, request: str) -> bytes:
        return self.content if moment == "message" else super()._words(moment, request)


class MailClient(smtp.SMTPClient):
    """Plays a program over sockets: what is in a message has to be said there."""

    def _content(self, task: Any, line: Any, taken: list[smtp.Key]) -> Any:
        mail = task.what
        head = f"Message-ID: <{mail.id}>\r\n" if mail.id else ""
        line.content = f"{head}Subject: {mail.number}\r\n\r\nmessage {mail.number}\r\n.\r\n".encode()
        return super()._content(task, line, taken)


# ---- FTP -----------------------------------------------------------------------------------------


class FileLine(SocketLine):
    """A control connection, with the port of the next data connection."""

    files: dict[str, bytes]
    _data_port: int = 0

    @property
    def record(self) -> Connection:
        """The connection, as the fake has noted it."""
        self.wire.fake.settle()
        connections = self.wire.fake.journal.connections
        found: Connection = next(one for one in reversed(connections) if one.peer_port == self.port)
        return found

    def command(self, moment: str, argument: str, *_: object, **__: object) -> Reply:
        reply = self.ask(moment, f"{moment.upper()} {argument}".strip(), ())
        if reply.code == 229:
            self._data_port = int(reply.lines[0].split("|")[3])
        return reply

    def transfer(self, verb: str, path: str, content: bytes, offset: int) -> tuple[Reply, ftp.Running]:
        """A transfer over a data connection; what has passed of it is in the journal."""
        running = ftp.Running(verb, path, 0 if verb == "APPE" else offset, content[offset:])
        if self.over:
            return self.ask(verb.lower(), f"{verb} {path}", ()), running
        with socket.create_connection((self.wire.fake.host, self._data_port), LATE) as data:
            reply = self.ask(verb.lower(), f"{verb} {path}", ())
            if not self.over and reply.codes and reply.codes[-1] < 200:
                _pass(data, running.content if verb in ftp.UPLOADS else None)
                more = self._reply()
                reply = Reply((*reply.lines, *more.lines), more.closed)
        known = self._known(verb)
        if known is not None:
            running.passed, running.complete = known.bytes, known.whole
        return reply, running

    def _known(self, verb: str) -> Transfer | None:
        """The transfer of this command, as the fake has noted it."""
        asked = next(x for x in reversed(self.record.exchanges) if x.moment == verb.lower())
        return asked.transfer


def _pass(data: socket.socket, content: bytes | None) -> None:
    """The bytes of a file pass, as far as the fake lets them."""
    try:
        if content is not None:
            data.sendall(content)
            data.shutdown(socket.SHUT_WR)
        while data.recv(65536):
            pass
    except OSError:
        pass


class FileClient(ftp.FTPClient):
    """Plays a program over sockets: the files of the server are those of the fake."""

    def __post_init__(self) -> None:
        super().__post_init__()
        there = self.wire.fake.files  # type: ignore[attr-defined]
        folders = {f"{file.path.removesuffix('.csv')}/": b"" for file in self.program.files if not file.upload}
        there.update({"/in/": b"", **folders, **self.files})
        self.files = there


# ---- HTTP ----------------------------------------------------------------------------------------


@dataclass
class RequestLine:
    """A connection of HTTP/2 that carries one stream at a time."""

    wire: SocketWire
    over: bool = False
    h2: H2 = field(init=False)

    def __post_init__(self) -> None:
        self.wire.asked = "connect"
        self.h2 = H2(self.wire.fake, patience=LATE)
        self._hear()

    @property
    def last(self) -> int | None:
        """The last stream of the GOAWAY that has come."""
        return min((last for last, _ in self.h2.farewells), default=None)

    def request(self, job: http.Job, _host: str) -> http.Answer:
        wire = self.wire
        wire.asked = "request"
        wire.until(wire.clock.now() + ROUND_TRIP)
        self._hear()
        was_over = self.over
        headers = [("idempotency-key", job.key)] if job.key else []
        try:
            number = self.h2.request(job.path, job.body or None, method=job.method, headers=headers)
        except OSError:
            return http.Answer(unprocessed=self.last is not None)
        if was_over:
            return http.Answer(unprocessed=self.last is not None)
        got = self.h2.answer_so_far(number)
        while not (got.over or self.over or self._excludes(number)):
            self._read()
        wire.fake.settle()
        self._hear()
        asked = next(x for x in reversed(wire.fake.journal.exchanges) if x.moment == "request")
        stored = asked.http is not None and asked.http.stored
        return http.Answer(got.status, got.ended, stored, got.reset == "REFUSED_STREAM" or self._excludes(number))

    def _excludes(self, number: int) -> bool:
        return self.last is not None and self.last < number

    def _hear(self) -> None:
        """Read what is there."""
        self.wire.fake.settle()
        while not self.over and (self.h2.buffer or select.select([self.h2.sock], [], [], QUIET)[0]):
            self._read()

    def _read(self) -> None:
        try:
            self.h2.read()
        except (EOFError, ConnectionResetError):
            self.over = True

    def leaves(self) -> None:
        self.h2.sock.close()
        self.over = True
        self.wire.fake.settle()

    leave = leaves


_OVER_SOCKETS: dict[str, tuple[Callable[[SocketWire], Any], Callable[[Any, Any], Any]]] = {
    "smtp": (MailLine, MailClient),
    "ftp": (FileLine, FileClient),
    "http": (RequestLine, http.HTTPClient),
}
