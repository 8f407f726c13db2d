"""HTTP/2 clients that repeat their requests, with all else that a connection may carry in between.

The fake must do the same whether or not it recognizes what it has read and sent before, and however the bytes are cut into pieces.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hpack import Decoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from tests.fuzz.offline import LOOP, connect, serving
from tests.http_client import PREFACE, frame, one, rules

from notnow import FakeHTTP, ManualClock
from notnow.engine.engine import Engine
from notnow.servers.base import turns
from notnow.servers.http.floods import Encoder
from notnow.servers.http.sections import Sections

SEEDS = 12  # histories for each test
STEPS = 40  # of a client
PASSING = ("id", "index", "wall", "after", "after_at")
PLAYS = (
    rules(
        one("request", where={"path": "/long"}, status=503, body="x" * 30_000, headers={"retry-after": "7"}),
        one("request", where={"path": "/none"}, status=204),
        one("request", where={"path": "/reset"}, reset_stream="REFUSED_STREAM"),
        one("request", status=421, body="no", headers={"x-one": "1"}),
    ),
    rules(one("request", every=3, status=503), one("request", status=404, body="none")),  # each is answered at once
    rules(one("request", nth=9, status=421, close=True), one("request", status=404, headers={"x-two": "2"})),
    rules(one("request", status=421, body="no", headers={"retry-after": "7"})),  # each is answered in the same way
)
AT_ONCE, ALWAYS = 1, 3


class Client:
    """A client that chooses by its dice. `racing`: what it sends may overtake the answer to what it has sent before."""

    def __init__(self, dice: random.Random, *, racing: bool, wrong: bool) -> None:
        self.dice, self.racing, self.wrong = dice, racing, wrong
        self.encoder = Encoder()
        self.number = -1
        self.blocks: list[bytes] = []

    def steps(self) -> Iterator[bytes]:
        yield PREFACE + SettingsFrame(0).serialize()
        usual = [self.request] * 9 + [self.again] * 3 + [self.upload] * 2 + [self.chatter, self.resized]
        racing = [self.cancel, self.windows, self.table] * self.racing
        for _ in range(STEPS):
            yield self.dice.choice(usual + racing)()
        if self.wrong:
            yield self.mistake()
            yield self.request()

    def fields(self, method: str = "GET") -> list[tuple[str, str]]:
        dice = self.dice
        fields = [(":method", method), (":scheme", "http"), (":authority", "a")]
        fields.append((":path", dice.choice(["/", "/", "/", "/none", *["/long", "/reset"] * self.racing])))
        more = [("cookie", "a=1"), ("cookie", "b=2"), ("x-big", "y" * 900), ("x-huge", "z" * 3000), ("host", "b")]
        return fields + [field for field in more if dice.random() < 0.1]

    def headers(self, block: bytes, *flags: str) -> bytes:
        """HEADERS as clients send them: plain most of the time."""
        dice = self.dice
        made = HeadersFrame(self.number, block, flags=[*flags, "END_HEADERS"])
        if dice.random() < 0.1:
            made.flags.add("PADDED")
            made.pad_length = 9
        if dice.random() < 0.1:
            made.flags.add("PRIORITY")
            made.depends_on, made.stream_weight, made.exclusive = dice.choice([0, 1, self.number]), 5, False
        if dice.random() < 0.1:
            at = dice.randrange(len(block) + 1)
            made.data = block[:at]
            made.flags.discard("END_HEADERS")
            rest = ContinuationFrame(self.number, block[at:], flags=["END_HEADERS"])
            return made.serialize() + rest.serialize()
        return made.serialize()

    def request(self) -> bytes:
        self.number += 2
        block = self.encoder.encode(self.fields(self.dice.choice(["GET", "GET", "GET", "HEAD"])))
        self.blocks.append(block)
        return self.headers(block, "END_STREAM")

    def again(self) -> bytes:
        """The same bytes as before, which may mean something else, or nothing, by now."""
        if not self.racing or not self.blocks:
            return self.request()
        self.number += 2
        return self.headers(self.dice.choice(self.blocks[-3:]), "END_STREAM")

    def upload(self) -> bytes:
        self.number += 2
        sent = self.headers(self.encoder.encode([*self.fields("POST"), ("content-length", "3")]))
        if self.dice.random() < 0.5:
            trailers = HeadersFrame(
                self.number, self.encoder.encode([("x-t", "1")]), flags=["END_HEADERS", "END_STREAM"]
            )
            return sent + DataFrame(self.number, b"abc").serialize() + trailers.serialize()
        body = self.dice.choice([b"abc", b"abc", *[b"ab"] * self.racing])
        return sent + DataFrame(self.number, body, flags=["END_STREAM"]).serialize()

    def chatter(self) -> bytes:
        said = [
            PingFrame(0, b"12345678"),
            PriorityFrame(9, depends_on=0, stream_weight=1, exclusive=False),
            WindowUpdateFrame(0, window_increment=60_000),
        ]
        return self.dice.choice([*(made.serialize() for made in said), frame(0x42, 0xFF, 0, b"unknown")])

    def resized(self) -> bytes:
        """The next block begins with a table size update."""
        self.encoder.header_table_size = self.dice.choice([0, 100, 4096])
        return b""

    def cancel(self) -> bytes:
        number = max(1, self.number - self.dice.choice([0, 0, 2]))
        return RstStreamFrame(number, error_code=8).serialize() if self.number > 0 else b""

    def windows(self) -> bytes:
        return SettingsFrame(0, settings={4: self.dice.choice([0, 1, 65_535])}).serialize()

    def table(self) -> bytes:
        return SettingsFrame(0, settings={1: self.dice.choice([0, 60, 4096])}).serialize()

    def mistake(self) -> bytes:
        wrong = [
            PingFrame(0, b"12345678").serialize()[:9].replace(b"\x08", b"\x07", 1) + b"1234567",
            b"\0\0\1\1\5" + (self.number + 2).to_bytes(4, "big") + b"\xff",  # HPACK
            HeadersFrame(2, b"\x82", flags=["END_HEADERS"]).serialize(),
            DataFrame(self.number + 2, b"x").serialize(),
            WindowUpdateFrame(0, window_increment=2**31 - 1).serialize(),
            b"\xff\xff\xff\0\0\0\0\0\1",
            *[HeadersFrame(self.number, self.blocks[-1], flags=["END_HEADERS", "END_STREAM"]).serialize()]
            * 5
            * self.racing,
        ]
        return self.dice.choice(wrong)


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    """The same bytes in pieces: a few large ones, or many small ones."""
    size, pieces, at = dice.choice([3, 40, 400, 4000]), [], 0
    while at < len(data):
        end = at + dice.randint(1, size)
        pieces.append(data[at:end])
        at = end
    return pieces


def played(
    pieces: list[bytes], play: int, *, seconds: int = 0, swap: int = -1, told: list[Any] | None = None
) -> tuple[bytes, list[Any]]:
    """What the client hears, and what the journal says; `seconds` pass between pieces, and another scenario begins at one of them.

    `told` takes what listeners are told, as it is then.
    """
    clock = ManualClock()
    clock.epoch = 1_700_000_000.5
    fake = FakeHTTP(PLAYS[play], clock=clock, seed=1, tls="none")
    if told is not None:
        fake.journal.subscribe(lambda entry: told.append(_lasting(entry.as_dict())))
    with serving(fake):
        wire = connect(fake)
        for index, piece in enumerate(pieces):
            if index == swap:
                fake.play(PLAYS[play - 1])
            if seconds and index % 5 == 0:
                fake.clock.advance(seconds)
            wire.say(piece)
            LOOP.settle()
        wire.end()
        LOOP.settle()
        LOOP.wait(60)
    return bytes(wire.heard), [_lasting(entry) for entry in fake.journal.as_dicts() if entry["event"] != "play"]


def _lasting(said: Any) -> Any:
    """Without what differs from run to run, and what is heard after the end."""
    if isinstance(said, dict):
        return {key: _lasting(value) for key, value in said.items() if key not in PASSING}
    return [_lasting(one) for one in said] if isinstance(said, tuple) else said


@pytest.fixture(autouse=True)
def turns_end_by_frames_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine makes no difference."""
    monkeypatch.setattr(turns, "PIECE", 1e9)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_recognized_is_done_as_what_is_not(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    data = b"".join(Client(dice, racing=True, wrong=seed % 2 == 0).steps())
    pieces, play = cut(data, dice), dice.randrange(len(PLAYS))
    given = {"seconds": dice.choice([0, 1]), "swap": dice.randrange(len(pieces))}
    fast = played(pieces, play, **given)
    monkeypatch.setattr(Sections, "find", lambda _self, _section: None)
    assert played(pieces, play, **given) == fast


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_settled_is_done_as_what_is_decided(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(seed)
    pieces = cut(b"".join(Client(dice, racing=True, wrong=seed % 2 == 0).steps()), dice)
    given = {"seconds": dice.choice([0, 1]), "swap": dice.choice([-1, dice.randrange(len(pieces))])}
    settled: list[Any] = []
    decided: list[Any] = []
    at_once = played(pieces, ALWAYS, **given, told=settled)
    monkeypatch.setattr(Engine, "settled", lambda *_: None)
    assert played(pieces, ALWAYS, **given, told=decided) == at_once
    assert settled == decided


@pytest.mark.parametrize("seed", range(SEEDS))
def test_pieces_make_no_difference(seed: int) -> None:
    dice = random.Random(seed)
    data = b"".join(Client(dice, racing=False, wrong=seed % 2 == 0).steps())
    whole, journal = played([data], AT_ONCE)
    for _ in range(3):
        heard, told = played(cut(data, dice), AT_ONCE)
        assert told == journal
        assert answers(heard) == answers(whole)


def answers(heard: bytes) -> dict[int, list[Any]]:
    """What each stream has got: the fields of heads, the bodies, and how it ends. Frames of stream 0 have no order of their own."""
    decoder, found, at = Decoder(), dict[int, list[Any]](), 0
    while at < len(heard):
        made, size = Frame.parse_frame_header(memoryview(heard[at : at + 9]))
        made.parse_body(memoryview(heard[at + 9 : at + 9 + size]))
        at += 9 + size
        got = found.setdefault(made.stream_id, [])
        match made:
            case HeadersFrame():
                got.append(list(decoder.decode(made.data)))
            case DataFrame():
                got.append(len(made.data))
            case RstStreamFrame() | GoAwayFrame():
                got.append(made.error_code)
        if "END_STREAM" in made.flags:
            got.append("end")
    return found
