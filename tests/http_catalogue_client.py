"""An HTTP/2 client over TLS that says each frame itself and keeps all that it hears, frame by frame.

Libraries hide what the catalogue is about: h2 takes nothing in after a GOAWAY, and httpx picks its connections itself.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import hpack
from h2.errors import ErrorCodes
from hyperframe import frame as frames

from notnow import FakeHTTP

TIMEOUT = 5.0  # real seconds
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 2**30
Headers = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """What has come on a stream. `reset` is the code of its RST_STREAM; `whole`: it has ended as it should."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False
    reset: str | None = None

    @property
    def over(self) -> bool:
        return self.whole or self.reset is not None


class Client:
    """One connection, made for `sni`, to a fake. Raises OSError where TLS does not come about.

    `goaway` is the code and the last stream of a GOAWAY, `ended` how the connection has ended ("fin" or "reset").
    """

    def __init__(
        self, fake: FakeHTTP, sni: str | None = "localhost", *, verify: bool = True, timeout: float = TIMEOUT
    ) -> None:
        context = fake.ssl_context()
        context.set_alpn_protocols(["h2"])
        if not verify or sni is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.fake, self.sni = fake, sni
        self.answers: dict[int, Answer] = {}
        self.settings: dict[int, int] = {}
        self.goaway: tuple[str, int] | None = None
        self.ended: str | None = None
        self._next, self._buffer = 1, b""
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=sni)
        self._sock = socket.create_connection((fake.host, fake.port), timeout=timeout)
        try:
            self._shake_hands()
        except BaseException:
            self._sock.close()
            raise
        assert self._tls.selected_alpn_protocol() == "h2"
        told = frames.SettingsFrame(settings={frames.SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW})
        self._say(PREFACE, told, frames.WindowUpdateFrame(0, window_increment=WINDOW))
        self.until(lambda: bool(self.settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    # ---- TLS: Python's own sockets take a reset for an end ----------------------------------------

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                if data := self._sock.recv(65_536):
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except ssl.SSLError:
                self._flush()
                raise
            else:
                self._flush()
                return

    def _flush(self) -> None:
        self._sock.sendall(self._out.read())

    def _read(self) -> bytes:
        """What comes next; nothing where the connection has ended, and `ended` says how."""
        while True:
            try:
                heard = self._tls.read(65_536)
            except ssl.SSLWantReadError:
                try:
                    data = self._sock.recv(65_536)
                except ConnectionResetError:
                    self.ended = "reset"
                    return b""
                if not data:
                    self.ended = "fin"
                    return b""
                self._in.write(data)
            else:
                if not heard:  # its goodbye
                    self.ended = "fin"
                return heard

    # ---- saying ------------------------------------------------------------------------------------

    def _say(self, *said: frames.Frame | bytes) -> None:
        for one in said:
            self._tls.write(one if isinstance(one, bytes) else one.serialize())
        self._flush()

    def begin(
        self, method: str, authority: str = "", path: str = "/", *, ends: bool = True, headers: Headers = ()
    ) -> int:
        """Send the head of a request; the number of its stream."""
        number, self._next = self._next, self._next + 2
        host = authority or self.sni or self.fake.host
        head = [(":method", method), (":scheme", "https"), (":authority", f"{host}:{self.fake.port}"), (":path", path)]
        frame = frames.HeadersFrame(number, self._encoder.encode([*head, *headers]), flags={"END_HEADERS"})
        if ends:
            frame.flags.add("END_STREAM")
        self.answers[number] = Answer()
        self._say(frame)
        return number

    def body(self, number: int, data: bytes, *, ends: bool = True) -> None:
        """Send a piece of a body; the windows of the fake are not looked at."""
        for at in range(0, len(data), 16_384):
            self._say(frames.DataFrame(number, data[at : at + 16_384]))
        if ends:
            self._say(frames.DataFrame(number, b"", flags={"END_STREAM"}))

    def ask(self, authority: str = "", path: str = "/", **headers: str) -> Answer:
        """GET, and what comes of it."""
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.answer(self.begin("GET", authority, path, headers=named))

    def post(self, data: bytes, authority: str = "", path: str = "/", method: str = "POST") -> Answer:
        number = self.begin(method, authority, path, ends=False, headers=[("content-length", str(len(data)))])
        self.body(number, data)
        return self.answer(number)

    def plainly(self, said: bytes) -> bytes:
        """What HTTP/1.1 gets for this, on a TLS connection of its own and until that ends."""
        context = self.fake.ssl_context()
        with socket.create_connection((self.fake.host, self.fake.port), timeout=TIMEOUT) as sock:
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(said)
                return b"".join(iter(lambda: tls.recv(65_536), b""))

    def cancel(self, number: int) -> None:
        self._say(frames.RstStreamFrame(number, error_code=ErrorCodes.CANCEL))

    # ---- hearing -----------------------------------------------------------------------------------

    def answer(self, number: int) -> Answer:
        """What has come on a stream, once it is over or the connection is."""
        answer = self.answers[number]
        self.until(lambda: answer.over)
        return answer

    def until(self, done: Callable[[], bool]) -> None:
        """Hear until `done()` holds, or the connection is over. Raises TimeoutError."""
        while not done() and self.ended is None:
            self._buffer += self._read()
            while len(self._buffer) >= 9:
                frame, length = frames.Frame.parse_frame_header(memoryview(self._buffer[:9]))
                if len(self._buffer) < 9 + length:
                    break
                frame.parse_body(memoryview(self._buffer[9 : 9 + length]))
                self._buffer = self._buffer[9 + length :]
                self._heard(frame)

    def end(self) -> str:
        """How the connection ends, once it does."""
        self.until(lambda: False)
        assert self.ended is not None
        return self.ended

    def _heard(self, frame: Any) -> None:
        answer = self.answers.get(frame.stream_id, Answer())
        assert not answer.over or isinstance(frame, (frames.WindowUpdateFrame, frames.RstStreamFrame)), frame
        match frame:
            case frames.SettingsFrame():
                if "ACK" not in frame.flags:
                    self.settings |= frame.settings
                    self._say(frames.SettingsFrame(flags={"ACK"}))
            case frames.HeadersFrame():
                headers = {str(name): str(value) for name, value in self._decoder.decode(frame.data)}
                answer.status = int(headers.pop(":status"))
                answer.headers = headers
            case frames.DataFrame():
                answer.body += frame.data
            case frames.RstStreamFrame():
                answer.reset = ErrorCodes(frame.error_code).name
            case frames.GoAwayFrame():
                self.goaway = ErrorCodes(frame.error_code).name, frame.last_stream_id
            case _:
                pass
        if "END_STREAM" in frame.flags:
            answer.whole = True
