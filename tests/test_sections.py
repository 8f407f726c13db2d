"""Field sections that were read or written before: what is remembered is what HPACK says, whatever came in between."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import hpack
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.http_client import PREFACE

from notnow.servers.http import floods, sections
from notnow.servers.http.http2_connection import Connection

if TYPE_CHECKING:
    from notnow.servers.base.turns import Turn

REQUEST = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
MALFORMED = b"A"
FIELDS = st.tuples(st.sampled_from([b"a", b"date", b"server", MALFORMED]), st.sampled_from([b"", b"1", b"x" * 40]))
SECTIONS = st.lists(FIELDS, max_size=4)
SIZES = st.sampled_from([0, 40, 100, 4096])


@settings(deadline=None)
@given(st.lists(st.tuples(SECTIONS, st.lists(SIZES, max_size=2)), max_size=30))
def test_requests_are_what_hpack_reads(requests: list[tuple[list[tuple[bytes, bytes]], list[int]]]) -> None:
    client, plain, ours = floods.Encoder(), hpack.Decoder(), floods.Decoder()
    for fields, sizes in requests:
        for size in sizes:
            client.header_table_size = size
        section = client.encode(REQUEST + fields)
        found, right = ours.decode(section, raw=True), list(plain.decode(section, raw=True))
        assert found == ([] if MALFORMED in dict(fields) else right)
        assert list(ours.header_table.dynamic_entries) == list(plain.header_table.dynamic_entries)


def both() -> tuple[H2Connection, Connection]:
    """h2's connection and ours, to which a client has connected."""
    plain = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    turn = cast("Turn", SimpleNamespace(over=lambda: False))
    ours = Connection(lambda broken: None, lambda number: False, turn)
    plain.encoder = floods.Encoder()
    for server in (plain, ours):
        server.initiate_connection()
        server.receive_data(PREFACE)
        server.data_to_send()
    return plain, ours


@settings(deadline=None)
@given(st.lists(st.tuples(SECTIONS, st.lists(SIZES, max_size=2), st.booleans()), max_size=30))
def test_responses_are_what_h2_sends(responses: list[tuple[list[tuple[bytes, bytes]], list[int], bool]]) -> None:
    plain, ours = both()
    client = H2Connection()
    client.initiate_connection()
    client.data_to_send()
    for number, (fields, sizes, ends) in enumerate(responses):
        stream, head = 2 * number + 1, ((b":status", b"421"), *fields)
        client.send_headers(stream, REQUEST, end_stream=True)
        asked = client.data_to_send()
        for size in sizes:
            asked += table_size(size)
        for server in (plain, ours):
            server.receive_data(asked)
        plain.send_headers(stream, head, end_stream=ends)
        ours.send_head(stream, head, ends)
        assert ours.data_to_send() == plain.data_to_send()
        assert ours.streams[stream].closed == plain.streams[stream].closed == ends


def table_size(size: int) -> bytes:
    """A SETTINGS frame with SETTINGS_HEADER_TABLE_SIZE."""
    return b"\0\0\6\4\0\0\0\0\0\0\1" + size.to_bytes(4, "big")


def test_a_section_is_known_the_third_time() -> None:
    """The first one fills the table, the second changes nothing, and from then on it is known."""
    encoder, decoder = hpack.Encoder(), floods.Decoder()
    found = [decoder.decode(encoder.encode([*REQUEST, (b"a", b"1")]), raw=True) for _ in range(4)]
    assert found[2] is found[1]
    assert found[3] is found[1]


def test_what_is_kept_is_bounded() -> None:
    decoder = floods.Decoder()
    for number in range(10 * sections.MOST):
        field = hpack.NeverIndexedHeaderTuple(b"a", b"%d" % number)
        decoder.decode(hpack.Encoder().encode([*REQUEST, field]), raw=True)
    assert len(decoder.sections._found) <= sections.MOST
    long = hpack.Encoder().encode([*REQUEST, hpack.NeverIndexedHeaderTuple(b"a", b"~" * sections.LONGEST)])
    decoder.decode(long, raw=True)
    assert decoder.sections.find((long, False, False)) is None


def test_a_malformed_section_is_never_known() -> None:
    encoder, decoder = hpack.Encoder(), floods.Decoder()
    for _ in range(4):
        assert decoder.decode(encoder.encode([*REQUEST, (b"A", b"1")]), raw=True) == []
        assert decoder.why is not None
    assert decoder.decode(encoder.encode(REQUEST), raw=True) == REQUEST
    assert decoder.why is None
