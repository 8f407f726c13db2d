"""The frames of an HTTP/2 client, behind its preface, with prior knowledge (RFC 9113 §3.3)."""

from __future__ import annotations

from hpack import Decoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    HeadersFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from tests.fuzz.talking import Talk, rule, scenarios
from tests.fuzz.targets.http11 import PLAYS as SHARED

from notnow import FakeHTTP

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PLAYS = [
    *SHARED,
    *scenarios(
        "http",
        rule("request", 'goaway = { last = "previous" }', nth="2"),
        rule("request", 'reset_stream = "REFUSED_STREAM"', every="2"),
        rule("request", "stall = true", nth="1") + rule("request", "status = 421\nclose = true", nth="3"),
    )[1:],
]


def one(data: bytes) -> None:
    if len(data) < 2:
        return
    talk = Talk(data[:2] + PREFACE + data[2:], PLAYS, FakeHTTP, tls="none")
    wire = talk.run()
    _check(bytes(wire.heard))


def _check(heard: bytes) -> None:
    """All that was heard are frames: header blocks decode, and a stream that has ended says nothing more (RFC 9113 §5.1)."""
    decoder = Decoder(max_header_list_size=10**7)
    decoder.max_allowed_table_size = 2**32  # the client may have allowed it
    ended: set[int] = set()
    for frame in _frames(heard):
        if isinstance(frame, (DataFrame, HeadersFrame, ContinuationFrame)):
            assert frame.stream_id not in ended, f"{frame} on a stream that has ended"
        if isinstance(frame, HeadersFrame):
            names = [name for name, _ in decoder.decode(frame.data, raw=True)]
            assert names.count(b":status") == 1 or b":status" not in names, names
        if "END_STREAM" in frame.flags or isinstance(frame, RstStreamFrame):
            ended.add(frame.stream_id)
        assert not isinstance(frame, ExtensionFrame) or frame.type in (0x0A, 0x0C), f"an unknown frame: {frame}"
        assert not isinstance(frame, WindowUpdateFrame) or frame.window_increment > 0


def _frames(heard: bytes) -> list[Frame]:
    found, at = [], 0
    while at + 9 <= len(heard):
        frame, length = Frame.parse_frame_header(memoryview(heard[at : at + 9]))
        if at + 9 + length > len(heard):
            break  # cut short by a close
        frame.parse_body(memoryview(heard[at + 9 : at + 9 + length]))
        found.append(frame)
        at += 9 + length
    return found
