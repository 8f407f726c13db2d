"""What an exchange carries: each value, how readers ask for it, and its line of JSON."""

from __future__ import annotations

import io
import json
from types import MappingProxyType
from typing import Any

import pytest

from notnow import ManualClock
from notnow.journal import (
    TLS,
    AltSvcFrame,
    ConnectionClose,
    ConnectionLost,
    End,
    Exchange,
    ExcludedByGoAway,
    Facts,
    Failure,
    FakeStopped,
    Frame,
    GoAwayFrame,
    HandshakeFailed,
    MalformedRequest,
    Message,
    NotUnderstood,
    OriginFrame,
    Parameters,
    ProtocolViolation,
    Recorder,
    Request,
    RstStreamFrame,
    TLSAlert,
    Transfer,
)

REQUEST = Request(
    stream=1, version="2", method="GET", authority="a.test:443", host="a.test", path="/", misdirected=("sni",),
    status=None, body_bytes=0, body_sha256=None, sent=0, whole=False, stored=False,
)  # fmt: skip
REQUEST_JSON = {
    "stream": 1, "version": "2", "method": "GET", "authority": "a.test:443", "host": "a.test", "path": "/",
    "misdirected": ["sni"], "status": None, "body_bytes": 0, "body_sha256": None, "sent": 0, "whole": False, "stored": False,
}  # fmt: skip
TRANSFER = Transfer("/a", "upload", "passive", offset=0, bytes=5, whole=False, data="reset")
TRANSFER_JSON = {
    "path": "/a", "direction": "upload", "mode": "passive", "offset": 0, "bytes": 5, "whole": False, "data": "reset",
}  # fmt: skip
MESSAGE = Message("<1@x>", "ab" * 32, "a@x", ("b@y", "c@y"))
MESSAGE_JSON = {
    "message_id": "<1@x>", "sha256": "ab" * 32, "sender": "a@x", "recipients": ["b@y", "c@y"], "stored": True,
}  # fmt: skip


@pytest.fixture
def recorder() -> Recorder:
    return Recorder(ManualClock())


@pytest.fixture
def exchange(recorder: Recorder) -> Exchange:
    return recorder.ask(recorder.open("1", "127.0.0.1", 1), "mail", "MAIL", "one")


def exported(exchange: Exchange) -> dict[str, Any]:
    """The exchange as a line of the export has it."""
    out = io.StringIO()
    exchange.connection.journal.export(out)
    (line,) = (json.loads(line) for line in out.getvalue().splitlines())
    return dict(line)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (MESSAGE, MESSAGE_JSON),
        (Message(None, "0", "", ()), {"message_id": None, "sha256": "0", "sender": "", "recipients": [], "stored": True}),
        (Parameters(MappingProxyType({"RET": "HDRS"})), {"parameters": {"RET": "HDRS"}}),
        (TRANSFER, TRANSFER_JSON),
        (Transfer("/", "listing", None, 0, 0, True, None),
         {"path": "/", "direction": "listing", "mode": None, "offset": 0, "bytes": 0, "whole": True, "data": None}),
        (Transfer("/", "upload", "active", 3, 2, True, None, True, "ab", False),
         {"path": "/", "direction": "upload", "mode": "active", "offset": 3, "bytes": 2, "whole": True, "data": None,
          "stored": True, "sha256": "ab", "resumed": False}),
        (Transfer("/a", "upload", "passive", offset=0, bytes=5, whole=False, data="reset", stored=False),
         {**TRANSFER_JSON, "stored": False}),
        (REQUEST, REQUEST_JSON),
        (MalformedRequest(3, "no :path"), {"stream": 3, "malformed": "no :path"}),
        (None, None),
    ],
)  # fmt: skip
def test_facts(recorder: Recorder, exchange: Exchange, facts: Facts | None, told: dict[str, Any] | None) -> None:
    recorder.facts(exchange, facts)
    assert exported(exchange).get("facts") == told
    assert (exchange.message, exchange.transfer, exchange.http) == tuple(
        facts if isinstance(facts, kind) else None for kind in (Message, Transfer, Request)
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("alt_used", "alt-used"), ("host_header", "header.host"), ("retry_after", "retry-after"), ("alt_svc", "alt-svc"),
        ("location", "location"), ("app_error", "app_error"), ("malformed", "malformed"),
    ],
)  # fmt: skip
def test_what_few_requests_have_is_left_out_of_the_others(
    recorder: Recorder, exchange: Exchange, name: str, key: str
) -> None:
    recorder.facts(exchange, REQUEST)
    recorder.more(exchange, **{name: "x"})
    assert exported(exchange)["facts"] == {**REQUEST_JSON, key: "x"}


@pytest.mark.parametrize(
    ("facts", "stored"),
    [
        (MESSAGE, True), (None, False), (Parameters({}), False), (REQUEST, False), (MalformedRequest(1, ""), False),
        (TRANSFER, False), (Transfer("/", "upload", None, 0, 0, True, None, True), True),
        (Transfer("/", "upload", None, 0, 0, False, None, False), False),
    ],
)  # fmt: skip
def test_stored(recorder: Recorder, exchange: Exchange, facts: Facts | None, stored: bool) -> None:
    recorder.facts(exchange, facts)
    assert exchange.stored is stored


def test_a_post_that_was_carried_out_is_stored(recorder: Recorder, exchange: Exchange) -> None:
    recorder.facts(exchange, REQUEST)
    recorder.more(exchange, stored=True)
    assert exchange.stored


@pytest.mark.parametrize(("message_id", "name"), [("<1@x>", "<1@x>"), (None, "sha256:abababababababab")])
def test_a_message_is_named_by_its_id_or_by_its_content(message_id: str | None, name: str) -> None:
    assert Message(message_id, "ab" * 32, "", ()).name == name


@pytest.mark.parametrize(
    ("end", "told", "words"),
    [
        (ConnectionClose(), {"type": "close", "how": "fin"}, "a close without a word"),
        (ConnectionClose("reset"), {"type": "close", "how": "reset"}, "a reset of the connection"),
        (ConnectionClose("abrupt"), {"type": "close", "how": "abrupt"}, "an abrupt close"),
        (TLSAlert("access_denied"), {"type": "alert", "name": "access_denied"}, "the TLS alert access_denied"),
        (ExcludedByGoAway(), {"type": "goaway"}, "a GOAWAY that left this request out"),
        (FakeStopped(), {"type": "stopped"}, "a close without a word"),
    ],
)
def test_how_the_fake_ended_it(recorder: Recorder, exchange: Exchange, end: End, told: object, words: str) -> None:
    assert (exchange.closed, "end" in exported(exchange)) == (False, False)
    recorder.end(exchange, end)
    assert (exported(exchange)["end"], exported(exchange)["closed"]) == (told, True)
    assert (exchange.told, exchange.refused, exchange.stopped) == (words, True, end == FakeStopped())


@pytest.mark.parametrize("end", [TLSAlert("access_denied"), ExcludedByGoAway(), FakeStopped()])
def test_a_close_is_a_part_of_the_end_before_it(recorder: Recorder, exchange: Exchange, end: End) -> None:
    recorder.end(exchange, end)
    recorder.end(exchange, ConnectionClose("reset"))
    assert exchange.end == end


def test_how_it_closed_is_known_when_it_did(recorder: Recorder, exchange: Exchange) -> None:
    recorder.end(exchange)
    recorder.end(exchange, ConnectionClose("reset"))
    assert exchange.end == ConnectionClose("reset")


def test_the_goodbye_of_a_fake_that_was_stopped(recorder: Recorder, exchange: Exchange) -> None:
    recorder.stopped(exchange)
    recorder.answer(exchange, "421 bye")
    assert (exchange.stopped, exchange.fault, exchange.rule, exchange.told) == (True, "stopped", None, "421 bye")


@pytest.mark.parametrize(
    ("frame", "told", "words"),
    [
        (GoAwayFrame("NO_ERROR", 3), {"type": "GOAWAY", "code": "NO_ERROR", "last_stream": 3}, "GOAWAY NO_ERROR, last stream 3"),
        (RstStreamFrame("CANCEL", 5), {"type": "RST_STREAM", "code": "CANCEL", "stream": 5}, "RST_STREAM CANCEL"),
        (AltSvcFrame('h2=":1"'), {"type": "ALTSVC", "value": 'h2=":1"'}, 'ALTSVC h2=":1"'),
        (OriginFrame(("https://a", "https://b")), {"type": "ORIGIN", "origins": ["https://a", "https://b"]},
         "ORIGIN https://a https://b"),
    ],
)  # fmt: skip
def test_frames(recorder: Recorder, exchange: Exchange, frame: Frame, told: object, words: str) -> None:
    assert "frames" not in exported(exchange)
    recorder.answer(exchange, "200 OK")
    recorder.frame(exchange, frame)
    assert (exchange.reply, exchange.frames, exported(exchange)["frames"]) == (f"200 OK\n{words}", (frame,), [told])
    assert exchange.sent(type(frame)) == [frame]
    assert exchange.reset is isinstance(frame, RstStreamFrame)


def test_frames_are_asked_for_by_their_kind(recorder: Recorder, exchange: Exchange) -> None:
    frames = GoAwayFrame("NO_ERROR", 5), RstStreamFrame("CANCEL", 1), GoAwayFrame("NO_ERROR", 3)
    for frame in frames:
        recorder.frame(exchange, frame)
    assert (exchange.frames, exchange.sent(GoAwayFrame)) == (frames, [frames[0], frames[2]])
    assert (exchange.sent(OriginFrame), exchange.refused) == ([], True)


def test_a_text_that_is_no_frame_is_none(recorder: Recorder, exchange: Exchange) -> None:
    """A reason phrase or a header may have these words in it."""
    recorder.answer(exchange, "200 RST_STREAM GOAWAY NO_ERROR, last stream 1")
    assert (exchange.reset, exchange.refused, exchange.frames) == (False, False, ())


@pytest.mark.parametrize(
    ("failure", "told", "error"),
    [
        (ProtocolViolation("HTTP/2", "PROTOCOL_ERROR", "bad"),
         {"type": "protocol", "version": "HTTP/2", "code": "PROTOCOL_ERROR", "reason": "bad"}, "HTTP/2 PROTOCOL_ERROR: bad"),
        (NotUnderstood(100), {"type": "not understood", "commands": 100}, "100 commands in a row were not understood"),
        (HandshakeFailed("no"), {"type": "handshake", "reason": "no"}, "TLS handshake failed: no"),
        (ConnectionLost("reset by peer"), {"type": "lost", "reason": "reset by peer"}, "reset by peer"),
        (None, None, None),
    ],
)  # fmt: skip
def test_what_went_wrong(recorder: Recorder, failure: Failure | None, told: object, error: str | None) -> None:
    connection = recorder.open("1", "127.0.0.1", 1)
    if failure is not None:
        recorder.failed(connection, failure)
    line = connection.as_dict()
    assert (connection.failure, connection.error, line["error"], line.get("failure")) == (failure, error, error, told)


# ---- users can change nothing --------------------------------------------------------------------


def test_records_and_values_refuse_to_be_changed(recorder: Recorder, exchange: Exchange) -> None:
    recorder.facts(exchange, MESSAGE)
    recorder.end(exchange, ConnectionClose())
    recorder.tls(exchange.connection, sni="a.test")
    recorder.mark("phase", "one")
    (mark,) = recorder.journal.marks
    found: list[object] = [
        exchange,
        exchange.connection,
        mark,
        MESSAGE,
        TRANSFER,
        REQUEST,
        exchange.end,
        exchange.connection.tls,
    ]
    for record in found:
        for name in record.__struct_fields__:  # type: ignore[attr-defined]
            with pytest.raises(AttributeError):
                setattr(record, name, None)
    assert exchange.message == MESSAGE


def test_parameters_are_read_only() -> None:
    with pytest.raises(TypeError):
        Parameters(MappingProxyType({"RET": "HDRS"})).parameters["RET"] = "FULL"  # type: ignore[index]


def test_an_exchange_that_is_held_grows(recorder: Recorder, exchange: Exchange) -> None:
    recorder.facts(exchange, TRANSFER)
    held = exchange.transfer
    recorder.more(exchange, whole=True, data=None)
    assert recorder.journal.exchanges == (exchange,)
    assert (held, exchange.transfer) == (TRANSFER, Transfer("/a", "upload", "passive", 0, 5, True, None))


def test_what_is_known_of_tls_adds_up(recorder: Recorder, exchange: Exchange) -> None:
    recorder.tls(exchange.connection, sni="a.test")
    recorder.tls(exchange.connection, version="TLSv1.3", certificate="default")
    assert exchange.connection.tls == TLS("TLSv1.3", "a.test", "default")


def test_an_unknown_field_is_an_error(recorder: Recorder, exchange: Exchange) -> None:
    recorder.facts(exchange, MESSAGE)
    with pytest.raises(TypeError, match="status"):
        recorder.more(exchange, status=421)


def test_text_that_is_no_unicode_can_be_exported(recorder: Recorder, exchange: Exchange) -> None:
    recorder.facts(exchange, Message("<\udce9@x>", "0", "\udce9", ("\udce9",)))
    assert exported(exchange)["facts"]["sender"] == "\udce9"


def test_facts_are_found_by_the_names_that_they_have_in_json():
    request = Request(
        1, "2", "GET", "a.test", "a.test", "/", (), 200, 0, None, 0, whole=True, stored=False, host_header="b.test"
    )
    assert request["header.host"] == dict(request)["header.host"] == request.get("header.host") == "b.test"
    assert "location" not in dict(request)
    assert request.get("location") is None
    assert dict(Parameters({"RET": "HDRS"})) == {"parameters": {"RET": "HDRS"}}
    with pytest.raises(KeyError):
        request["whom"]
