"""HTTP clients for tests: `H2` speaks HTTP/2 frame by frame, `H1` HTTP/1.1 byte by byte, in TLS or in clear.

They do what they are told to, right or wrong: no client library would.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from h2.errors import ErrorCodes
from hpack import Decoder, Encoder
from hyperframe.frame import (
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import toml_rules
from notnow import FakeHTTP
from raw_connection import PATIENCE, ExactTLS, TLSSocket
from toml_rules import one, then

__all__ = ["H1", "H2", "PREFACE", "Answer", "code", "frame", "one", "rules", "then"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65_535  # bytes that may be under way where nothing else was said (RFC 9113 §6.9.2)
LARGEST = 16_384  # bytes of a frame's payload
Headers = Iterable[tuple[str, str]]
rules = partial(toml_rules.rules, protocol="http")


@functools.cache
def _context(ca_file: str, alpn: tuple[str, ...], check_name: bool) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca_file)
    made.check_hostname = check_name  # a client that coalesces looks at the names by itself
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def code(name: str) -> int:
    """The number of an error code (RFC 9113 §7)."""
    return int(ErrorCodes[name])


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    """The bytes of a frame, however wrong it is."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


@dataclass
class Answer:
    """What a client has got for a request; `reset` is the code of an RST_STREAM, `ended` tells that it is complete."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: str | None = None
    ended: bool = False
    early: list[int] = field(default_factory=list)  # 1xx
    trailers: dict[str, str] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Nothing more comes of it."""
        return self.ended or self.reset is not None

    @property
    def said(self) -> Any:
        """The body as JSON: what the echo says."""
        return json.loads(self.body)


class HTTP(ExactTLS):
    """A connection to a fake, in TLS if the fake speaks it, with a certificate of its CA.

    `sni=None` sends no SNI; `check_name` refuses a certificate for another name.
    """

    def __init__(
        self,
        fake: FakeHTTP,
        *,
        sni: str | None = "localhost",
        alpn: tuple[str, ...] = (),
        tls: bool | None = None,
        patience: float = PATIENCE,
        receive_buffer: int | None = None,
        check_name: bool = False,
    ) -> None:
        self.host = sni or "localhost"
        self.fake, self.patience, self.buffer = fake, patience, b""
        self.sock = socket.socket(socket.AF_INET6 if ":" in fake.host else socket.AF_INET)
        if receive_buffer is not None:  # before it connects: that is what the peer is told
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(patience)
        try:
            self.sock.connect((fake.host, fake.port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            self.sock.close()
            raise
        if (fake.tls == "implicit") if tls is None else tls:
            self.wrap(_context(fake.ca_file, alpn, check_name and sni is not None), sni)

    @property
    def tls(self) -> TLSSocket:
        assert isinstance(self.sock, TLSSocket)
        return self.sock

    def certificate(self) -> tuple[str, ...]:
        """The names of the certificate that the fake has shown."""
        found = self.tls.getpeercert() or {}
        return tuple(name for _, name in found["subjectAltName"])


class H2(HTTP):
    """A client of HTTP/2. `window` is how much of an answer may be under way, `credit`: it gives more as it reads."""

    def __init__(
        self,
        fake: FakeHTTP,
        *,
        alpn: tuple[str, ...] = ("h2",),
        hello: bool = True,
        window: int = WINDOW,
        credit: bool = True,
        **given: Any,
    ) -> None:
        super().__init__(fake, alpn=alpn, **given)
        self.encoder, self.decoder = Encoder(), Decoder()
        self.credit = credit
        self.frames: list[Frame] = []  # all that have come
        self.answers: dict[int, Answer] = {}
        self.settings: dict[int, int] = {}  # the fake's
        self.room, self.rooms = WINDOW, dict[int, int]()  # for bodies of requests
        self.next = 1
        self.reset_seen = False  # the system tells of a reset once
        self.how_ended: str | None = None  # "fin" or "reset", once the end has been read
        if hello:
            told = {SettingsFrame.INITIAL_WINDOW_SIZE: window} if window != WINDOW else {}
            try:
                self.send(PREFACE + SettingsFrame(0, settings=told).serialize())
            except OSError:
                self.sock.close()
                raise

    # ---- saying ----------------------------------------------------------------------------------

    def headers(self, method: str, path: str, authority: str | None, headers: Headers = ()) -> list[tuple[str, str]]:
        scheme = "https" if isinstance(self.sock, TLSSocket) else "http"
        pseudo = [(":method", method), (":scheme", scheme), (":path", path)]
        return [*pseudo, *([(":authority", authority)] if authority is not None else []), *headers]

    def head(
        self,
        path: str = "/",
        *,
        method: str = "GET",
        host: str = "",
        authority: str | None = None,
        headers: Headers = (),
        end: bool = True,
    ) -> tuple[int, bytes]:
        """The number of the next stream, and the frame that opens it; `host` is an authority at the fake's port."""
        number, self.next = self.next, self.next + 2
        authority = f"{host or self.host}:{self.fake.port}" if authority is None else authority
        block = self.encoder.encode(self.headers(method, path, authority, headers))
        made = HeadersFrame(number, block, flags=["END_HEADERS", *(["END_STREAM"] if end else [])])
        return number, made.serialize()

    def request(self, path: str = "/", body: bytes | None = None, **given: Any) -> int:
        """Ask; a body is sent as far as the fake's windows let it."""
        given.setdefault("end", body is None)
        if body is not None:
            given.setdefault("method", "POST")
        number, sent = self.head(path, **given)
        self.send(sent)
        if body is not None:
            self.upload(number, body)
        return number

    def data(self, number: int, data: bytes, end: bool = False) -> None:
        """DATA, whatever the windows say."""
        self.room -= len(data)
        self.rooms[number] = self.rooms.get(number, WINDOW) - len(data)
        self.send(DataFrame(number, data, flags=["END_STREAM"] if end else []).serialize())

    def upload(self, number: int, data: bytes, end: bool = True) -> None:
        """A body, as the windows let it. Less of it, where the stream is reset meanwhile."""
        while True:
            room = min(self.room, self.rooms.get(number, self.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, WINDOW)))
            if data and room <= 0:
                self.read()
                if self.answer_so_far(number).reset:
                    return
                continue
            piece, data = data[: min(room, LARGEST)], data[min(room, LARGEST) :]
            self.data(number, piece, end and not data)
            if not data:
                return

    def rst(self, number: int, why: str = "CANCEL") -> None:
        self.send(RstStreamFrame(number, error_code=code(why)).serialize())

    def go_away(self, why: str = "NO_ERROR", last: int = 0) -> None:
        self.send(GoAwayFrame(0, last_stream_id=last, error_code=code(why)).serialize())

    def more(self, size: int, number: int = 0) -> None:
        """WINDOW_UPDATE."""
        self.send(WindowUpdateFrame(number, window_increment=size).serialize())

    def ping(self) -> None:
        """Return when the fake has read, and answered, all that was said before."""
        self.send(PingFrame(0, b"12345678").serialize())
        before = len(self.frames)
        self.until(lambda: any(isinstance(frame, PingFrame) for frame in self.frames[before:]))

    # ---- reading ---------------------------------------------------------------------------------

    def read(self) -> Frame:
        """The next frame. Raises EOFError at the end, and OSError for a reset."""
        try:
            head = self.exactly(9)
        except (EOFError, ConnectionResetError) as error:
            self.reset_seen = self.reset_seen or isinstance(error, ConnectionResetError)
            self.how_ended = "reset" if self.reset_seen else "fin"
            if self.reset_seen:
                raise ConnectionResetError from None
            raise
        size = int.from_bytes(head[:3], "big")
        made, _ = Frame.parse_frame_header(memoryview(head))
        made.parse_body(memoryview(self.exactly(size)))
        self.frames.append(made)
        self._note(made)
        return made

    def _note(self, made: Frame) -> None:
        answer = self.answer_so_far(made.stream_id)
        if isinstance(made, HeadersFrame):
            assert not answer.ended, "an answer after the answer"
            self._note_head(answer, self.decoder.decode(made.data))
        elif isinstance(made, DataFrame):
            answer.body += made.data
            if self.credit and made.flow_controlled_length:
                with self._though_gone():
                    self.more(made.flow_controlled_length)
                    if "END_STREAM" not in made.flags:
                        self.more(made.flow_controlled_length, made.stream_id)
        elif isinstance(made, RstStreamFrame):
            answer.reset = ErrorCodes(made.error_code).name
        elif isinstance(made, WindowUpdateFrame):
            if made.stream_id:
                self.rooms[made.stream_id] = self.rooms.get(made.stream_id, WINDOW) + made.window_increment
            else:
                self.room += made.window_increment
        elif isinstance(made, SettingsFrame) and "ACK" not in made.flags:
            self.settings.update(made.settings)
            with self._though_gone():
                self.send(SettingsFrame(0, flags=["ACK"]).serialize())
        if "END_STREAM" in made.flags:
            answer.ended = True

    @contextlib.contextmanager
    def _though_gone(self) -> Iterator[None]:
        """The fake may have gone meanwhile: what it has said is read all the same, and then how it has gone."""
        try:
            yield
        except OSError as error:
            self.reset_seen = self.reset_seen or isinstance(error, ConnectionResetError)

    def _note_head(self, answer: Answer, headers: Iterable[tuple[Any, Any]]) -> None:
        found = {str(name): str(value) for name, value in headers}
        if answer.status is not None:
            answer.trailers = found
            return
        status = int(found.pop(":status"))
        if status < 200:
            answer.early.append(status)
        else:
            answer.status, answer.headers = status, found

    def until(self, done: Callable[[], object]) -> None:
        while not self.frames or not done():
            self.read()

    def answer_so_far(self, number: int) -> Answer:
        return self.answers.setdefault(number, Answer())

    def answer(self, number: int) -> Answer:
        """The answer to a request, when it is complete, or the stream was reset."""
        answer = self.answer_so_far(number)
        while not answer.over:
            self.read()
        return answer

    def outcome(self, number: int) -> Answer:
        """The answer to a request, or the part that has come of it before the connection ended."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            self.answer(number)
        return self.answer_so_far(number)

    def get(self, path: str = "/", body: bytes | None = None, **given: Any) -> Answer:
        return self.answer(self.request(path, body, **given))

    def post(self, body: bytes, path: str = "/", headers: Headers = (), **given: Any) -> Answer:
        """A body whose length the head names; the part of the answer that has come when the connection ends."""
        return self.outcome(self.request(path, body, headers=[*headers, ("content-length", str(len(body)))], **given))

    def end(self) -> str:
        """Read to the end of the connection: "fin" or "reset"."""
        with contextlib.suppress(ConnectionResetError):
            self.rest()
        assert self.how_ended is not None
        return self.how_ended

    def rest(self) -> None:
        """Read until the end. Raises OSError where a reset comes instead."""
        try:
            while True:
                self.read()
        except (EOFError, ssl.SSLEOFError):
            pass

    @property
    def farewells(self) -> list[tuple[int, str]]:
        """The GOAWAYs that have come: the last stream, and the code."""
        gone = [made for made in self.frames if isinstance(made, GoAwayFrame)]
        return [(made.last_stream_id, ErrorCodes(made.error_code).name) for made in gone]

    def extensions(self, kind: int) -> list[tuple[int, bytes]]:
        """Frames of a type that hyperframe does not know: stream, and payload."""
        return [(f.stream_id, f.body) for f in self.frames if isinstance(f, ExtensionFrame) and f.type == kind]


class H1(HTTP):
    """A client of HTTP/1.1."""

    def __init__(self, fake: FakeHTTP, *, alpn: tuple[str, ...] = ("http/1.1",), **given: Any) -> None:
        super().__init__(fake, alpn=alpn, **given)

    def ask(
        self,
        path: str = "/",
        body: bytes | None = None,
        *,
        method: str = "",
        headers: Headers = (),
        version: str = "1.1",
    ) -> None:
        method = method or ("GET" if body is None else "POST")
        lines = [f"{method} {path} HTTP/{version}"]
        if not any(name.lower() == "host" for name, _ in headers):
            lines.append(f"Host: localhost:{self.fake.port}")
        if body is not None and not any(n.lower() in ("content-length", "transfer-encoding") for n, _ in headers):
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    def head(self) -> Answer:
        """The head of the next answer, 1xx left out."""
        answer = Answer()
        while answer.status is None:
            version, status, *_ = self.line().split(" ", 2)
            assert version == "HTTP/1.1"
            headers: dict[str, str] = {}
            while line := self.line():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            if int(status) < 200 and int(status) != 101:
                answer.early.append(int(status))
            else:
                answer.status, answer.headers = int(status), headers
        return answer

    def answer(self, method: str = "GET") -> Answer:
        """The next answer. Raises EOFError where the connection ends in it."""
        answer = self.head()
        if method == "HEAD" or answer.status in (204, 304):
            pass
        elif "content-length" in answer.headers:
            answer.body = self.exactly(int(answer.headers["content-length"]))
        elif answer.headers.get("transfer-encoding") == "chunked":
            while size := int(self.line(), 16):
                answer.body += self.exactly(size)
                assert self.line() == ""
            while line := self.line():
                name, _, value = line.partition(":")
                answer.trailers[name.lower()] = value.strip()
        else:
            answer.body = self.until_end().encode()
        answer.ended = True
        return answer

    def get(self, path: str = "/", body: bytes | None = None, **given: Any) -> Answer:
        self.ask(path, body, **given)
        return self.answer(given.get("method", "GET"))
