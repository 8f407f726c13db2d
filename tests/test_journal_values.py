"""What an exchange carries: each value, how readers ask for it, and its line of JSON."""

from __future__ import annotations

import io
import json
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from notnow import ManualClock
from notnow.journal import (
    TLS,
    AlertReceived,
    AltSvcFrame,
    CertificateRejected,
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
    HandshakeAbandoned,
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
    Target,
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
    "message_id": "<1@x>", "sha256": "ab" * 32, "sender": "a@x", "recipients": ["b@y", "c@y"], "stored": True, "size": None,
    "whole": True,
    "text_sha256": None,
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
        (Message(None, None, "", (), stored=False, size=5, whole=False),
         {"message_id": None, "sha256": None, "sender": "", "recipients": [], "stored": False, "size": 5, "whole": False,
          "text_sha256": None}),
        (Target("/a"), {"path": "/a"}),
        (Target("/b", "/a"), {"path": "/b", "source": "/a"}),
        (Transfer("/a", "download", "passive", 0, 5, False, "fin", cut_by="client", size=9),
         {**TRANSFER_JSON, "direction": "download", "data": "fin", "cut_by": "client", "size": 9}),
        (Transfer("/a", "upload", "passive", 0, 5, False, "reset", failure=CertificateRejected("unknown_ca")),
         {**TRANSFER_JSON, "failure": {"type": "certificate rejected", "alert": "unknown_ca"}}),
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
    assert (exchange.message, exchange.transfer, exchange.target, exchange.http) == tuple(
        facts if isinstance(facts, kind) else None for kind in (Message, Transfer, Target, Request)
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("alt_used", "alt-used"), ("host_header", "header.host"), ("retry_after", "retry-after"), ("alt_svc", "alt-svc"),
        ("location", "location"), ("app_error", "app_error"), ("malformed", "malformed"), ("idempotency_key", "idempotency-key"), ("length", "length"),
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
        (MESSAGE, True), (Message("<1@x>", None, "", (), stored=False), False), (Target("/a"), False), (None, False), (Parameters({}), False), (REQUEST, False), (MalformedRequest(1, ""), False),
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


@pytest.mark.parametrize(
    ("message_id", "sha256", "name"),
    [
        ("<1@x>", "ab" * 32, "<1@x>"), ("<1@x>", None, "<1@x>"), (None, "ab" * 32, "sha256:abababababababab"),
        (None, None, "a message from <a@x>"),
    ],
)  # fmt: skip
def test_a_message_is_named_by_its_id_or_by_its_content(message_id: str | None, sha256: str | None, name: str) -> None:
    assert Message(message_id, sha256, "a@x", ()).name == name


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
def test_frames(recorder: Recorder, exchange: Exchange, frame: Frame, told: dict[str, Any], words: str) -> None:
    assert "frames" not in exported(exchange)
    recorder.answer(exchange, "200 OK")
    recorder.frame(exchange, frame)
    (sent,) = exchange.frames
    assert (exchange.reply, sent) == (f"200 OK\n{words}", replace(frame, index=sent.index))
    assert exported(exchange)["frames"] == [{**told, "at": 0.0, "index": sent.index}]
    assert exchange.sent(type(frame)) == [sent]
    assert exchange.reset is isinstance(frame, RstStreamFrame)


def test_frames_are_asked_for_by_their_kind(recorder: Recorder, exchange: Exchange) -> None:
    for frame in (GoAwayFrame("NO_ERROR", 5), RstStreamFrame("CANCEL", 1), GoAwayFrame("NO_ERROR", 3)):
        recorder.frame(exchange, frame)
    first, _, third = exchange.frames
    assert [type(frame) for frame in exchange.frames] == [GoAwayFrame, RstStreamFrame, GoAwayFrame]
    assert exchange.sent(GoAwayFrame) == [first, third]
    assert (exchange.sent(OriginFrame), exchange.refused) == ([], True)


def test_a_frame_has_the_time_at_which_it_left(recorder: Recorder, exchange: Exchange) -> None:
    """The answer that comes later has a time of its own."""
    for last in (5, 3):
        recorder.clock.advance("1s")
        recorder.frame(exchange, GoAwayFrame("NO_ERROR", last))
    opened = recorder.ask(exchange.connection, "request", "GET a.test/", "one")
    recorder.clock.advance("4s")
    recorder.answer(exchange, "200 OK")
    first, second = exchange.connection.goaways
    assert (first.at, second.at, exchange.answered_at) == (1.0, 2.0, 6.0)
    assert exchange.index < first.index < second.index < opened.index
    assert exchange.connection.as_dict()["goaways"][1]["last_stream"] == 3


def test_a_goaway_before_a_close_is_no_reply(recorder: Recorder, exchange: Exchange) -> None:
    recorder.goaway(exchange.connection, GoAwayFrame("NO_ERROR", 1), exchange)
    recorder.end(exchange)
    assert (exchange.reply, exchange.told) == (None, "GOAWAY NO_ERROR, last stream 1")
    assert exchange.sent(GoAwayFrame) == list(exchange.connection.goaways)


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
        (CertificateRejected("unknown_ca"), {"type": "certificate rejected", "alert": "unknown_ca"},
         "the client rejected the certificate (TLS alert unknown_ca)"),
        (AlertReceived("protocol_version"), {"type": "client alert", "alert": "protocol_version"},
         "the client ended TLS with the alert protocol_version"),
        (HandshakeAbandoned(done=False), {"type": "abandoned", "done": False},
         "the client closed the connection during the TLS handshake, without an alert"),
        (HandshakeAbandoned(done=True), {"type": "abandoned", "done": True},
         "the client closed the connection right after the TLS handshake, without an alert"),
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


def test_a_connection_that_failed_names_the_failure_in_place_of_a_reply(recorder: Recorder, exchange: Exchange) -> None:
    assert exchange.told == "no reply"
    recorder.failed(exchange.connection, CertificateRejected("unknown_ca"))
    assert exchange.told == "the client rejected the certificate (TLS alert unknown_ca)"


@pytest.mark.parametrize(
    ("facts", "reply", "told"),
    [
        (replace(REQUEST, status=200, sent=5, length=9), "200 OK", "200 OK, then a cut after 5 of 9 bytes"),
        (replace(REQUEST, status=200, sent=5), "200 OK", "200 OK, then a cut after 5 bytes"),
        (replace(REQUEST, status=200, sent=5, whole=True), "200 OK", "200 OK"),
        (replace(TRANSFER, cut_by="fake"), "150 go", "150 go, then a cut after 5 bytes"),
        (replace(TRANSFER, cut_by="client"), "150 go", "150 go, then a close without a word"),
        (replace(TRANSFER, cut_by="fake"), "150 go\n426 cut", "426 cut"),
    ],
)
def test_an_answer_that_was_cut_says_so(
    recorder: Recorder, exchange: Exchange, facts: Facts, reply: str, told: str
) -> None:
    recorder.facts(exchange, facts)
    recorder.answer(exchange, reply)
    recorder.end(exchange)
    assert exchange.told == told


@pytest.mark.parametrize(
    ("tls", "trusted"),
    [(TLS(), None), (TLS(certificate="a"), True), (TLS(certificate="a", defects=("expired",)), False)],
)
def test_whether_a_client_may_trust_the_certificate(tls: TLS, trusted: bool | None) -> None:
    assert tls.trusted is trusted


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
