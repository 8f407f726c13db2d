"""What a client that was refused got, in the words of a failure: never another thing than what was on the wire."""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

import pytest

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock
from notnow.conduct.pictures.timeline import render
from notnow.servers.base.fake import Fake


def scenario(folder: Path, protocol: str, fault: str) -> Path:
    file = folder / "x.toml"
    tls = '[server]\ntls = "none"\n' if protocol == "http" else ""
    file.write_text(f'protocol = "{protocol}"\n{tls}[[phase]]\n[[phase.rule]]\n{fault}\n')
    return file


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload


def h2(fake: Fake) -> bytes:
    """A GET in HTTP/2 with prior knowledge (RFC 9113 §3.3)."""
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 5, 1, b"\x82\x84\x86\x41\x01a")


FAKES = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": FakeHTTP}
SAYS = {"smtp": lambda _: b"EHLO x\r\n", "ftp": lambda _: b"USER x\r\n", "http": h2}
KINDS = [  # the protocol, a rule, what the failure says that the client got
    ("smtp", 'on = "connect"\nclose = true', "got a close without a word at connect"),
    ("smtp", 'on = "connect"\nclose = "reset"', "got a reset of the connection at connect"),
    ("smtp", 'on = "ehlo"\nclose = "reset"', "got a reset of the connection at ehlo"),
    ("smtp", 'on = "ehlo"\nclose = "abrupt"', "got an abrupt close at ehlo"),
    ("ftp", 'on = "user"\nreply = "421 no"', "was told '421 no' at user"),
    ("ftp", 'on = "connect"\nclose = "abrupt"', "got an abrupt close at connect"),
    ("http", 'on = "request"\ngoaway = { last = "previous" }', "was told 'GOAWAY NO_ERROR, last stream 0' at request"),
    ("http", 'on = "request"\nreset_stream = "REFUSED_STREAM"', "was told 'RST_STREAM REFUSED_STREAM' at request"),
    ("http", 'on = "request"\nclose = "reset"', "got a reset of the connection at request"),
]


@pytest.mark.parametrize(("protocol", "fault", "words"), KINDS)
def test_a_failure_says_what_the_client_got(tmp_path: Path, protocol: str, fault: str, words: str) -> None:
    with FAKES[protocol](scenario(tmp_path, protocol, fault)) as fake:
        with contextlib.suppress(OSError), socket.create_connection((fake.host, fake.port), timeout=5) as s:
            s.settimeout(0.5 if "reset_stream" in fault else 5)  # there the connection stays
            s.sendall(SAYS[protocol](fake))
            while s.recv(65536):
                pass
        with pytest.raises(AssertionError) as caught:
            fake.assert_delivered()
        assert words in str(caught.value).partition("\n")[0]
        heard = words.partition(" at ")[0].removeprefix("got ").removeprefix("was told ").strip("'")
        assert heard.partition(",")[0] in render([fake.journal])


def test_a_tls_alert_is_told_by_its_name(tmp_path: Path) -> None:
    import ssl

    file = tmp_path / "x.toml"
    file.write_text(
        'protocol = "smtp"\n[server]\ntls = "implicit"\n[[phase]]\n[[phase.rule]]\non = "tls"\nalert = "unrecognized_name"\n'
    )
    with FakeSMTP(file) as fake:
        context = ssl.create_default_context(cafile=fake.ca_file)
        with socket.create_connection((fake.host, fake.port), timeout=5) as s, pytest.raises(ssl.SSLError):
            context.wrap_socket(s, server_hostname="localhost")
        fake.wait_for(lambda journal: journal.count("tls"))
        with pytest.raises(AssertionError, match="got the TLS alert unrecognized_name at tls and did not come back"):
            fake.assert_delivered()


def test_lanes_tell_a_reset_and_a_goaway_from_a_close(tmp_path: Path) -> None:
    with FakeHTTP(scenario(tmp_path, "http", 'on = "request"\nclose = "reset"')) as fake:
        with socket.create_connection((fake.host, fake.port), timeout=5) as s, contextlib.suppress(OSError):
            s.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            while s.recv(65536):
                pass
        lane = next(line for line in render([fake.journal]).splitlines() if "GET" in line)
        assert lane.rstrip().endswith("GET a/x a reset of the connection")


@pytest.mark.parametrize("fake", [FakeSMTP, FakeFTP, FakeHTTP])
def test_where_nobody_connected_that_is_what_is_said(fake: type[Fake]) -> None:
    clock = ManualClock()
    one, other = fake(clock=clock), fake(clock=clock, name="backup")
    for call in (
        one.assert_delivered,
        one.assert_retried,
        one.assert_conduct,
        lambda: one.assert_gave_up(after="5d"),
        lambda: one.assert_new_connection_after(421),
        lambda: one.assert_fell_back_to(other),
    ):
        with pytest.raises(AssertionError, match="but .*nobody connected"):
            call()


def test_numbers_are_spoken(tmp_path: Path) -> None:
    with FakeSMTP(scenario(tmp_path, "smtp", 'on = "connect"\nreply = "421 no"')) as fake:
        for _ in range(2):
            with socket.create_connection((fake.host, fake.port), timeout=5) as s:
                while s.recv(100):
                    pass
        with pytest.raises(AssertionError, match="to try again 3 times, but it tried again once"):
            fake.assert_retried(times=(3, 3))
        with pytest.raises(AssertionError, match=r"a constant back-off, but 1 gap \(.*\) cannot tell: it takes 3"):
            fake.assert_retried(backoff="constant")
        with pytest.raises(
            AssertionError, match=r"the client came back once and was refused again: the last time it was told '421 no'"
        ):
            fake.assert_delivered()
