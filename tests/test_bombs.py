"""Small inputs that would cost much: each has a bound, and the work is counted in calls, not in seconds."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame

from http_client import H2
from notnow import FakeHTTP, FakeSMTP
from notnow.bounds import SMTP_LINE, SMTP_PATH, TABLE
from notnow.chaos.replay import maillog, making
from notnow.chaos.replay.recording import ReplayError
from notnow.servers.http.floods import Encoder
from smtp_client import Raw

LINE = (
    "Jul 20 10:00:01 mx postfix/smtp[12]: %sABCDEF: to=<d@e.f>, relay=e.f[192.0.2.1]:25, delay=1, delays=0.1/0/0.5/0.4, "
    "dsn=4.3.2, status=deferred (host e.f[192.0.2.1] refused to talk to me: 421 4.3.2 busy)\n"
)


@contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fails as soon as the block makes more calls."""
    left = calls

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            sys.setprofile(None)
            raise AssertionError(f"more than {calls} calls")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)


def replay(recording: bytes) -> str:
    """The scenario of a recording, or why there is none."""
    try:
        return making.made(io.BytesIO(recording), "it").toml
    except ReplayError as error:
        return str(error)


class TestRecordings:
    @pytest.mark.parametrize("times", ["200001", "999999999", "9" * 5_000])
    def test_a_line_that_says_it_was_repeated_without_end(self, times: str) -> None:
        log = LINE % f"message repeated {times} times: [ "
        with at_most(20_000):
            said = replay(log.encode())
        assert "more than 200000 deliveries" in said or "left out 1 line" in said

    def test_a_use_of_a_connection_that_is_no_number(self) -> None:
        log = (LINE % "").replace("delay=1,", f"conn_use={'9' * 5_000}, delay=1,")
        assert "left out 1 line" in replay(log.encode())

    @pytest.mark.parametrize(
        "piece",
        [
            "a",
            "/smtp[1]: ABCDEF: to=<a>, orig_to=<b>, ",
            "/smtp[1]: ABCDEF: to=<a>, orig_to=<b>, relay=a",
            "to=<a>, orig_to=<",
            "/qmgr[1]: ABCDEF: from=<",
        ],
    )
    def test_a_line_on_which_a_search_would_start_again_and_again(self, piece: str) -> None:
        """No pattern has two ways to match the same text, and a longer line is not searched."""
        short = f"x/smtp[1]: ABCDEF: to=<a>, {piece * 100} status="[: maillog.LONGEST_LINE]
        assert maillog.read([short], "it").others == 1
        assert maillog.read([piece * 100_000 + "/qmgr[ status="], "it").others == 1

    def test_lines_that_all_go_on_the_one_before(self) -> None:
        """A file of indented text is no log; its lines are not put into one."""
        pieces: list[str] = list(maillog._joined(["x", *[" " + "y" * 1_000] * 1_000]))
        assert [len(one) < maillog.LONGEST_LINE + 2_000 for one in pieces] == [True]

    def test_a_name_that_is_half_a_character(self) -> None:
        assert "no entry of a journal" in replay(b'{"event": "listening", "name": "\\ud800"}\n')


class TestPaths:
    """The parser of `email` takes time with the square of an unusual address: 200 ms for a whole line of quotes."""

    @pytest.mark.parametrize("piece", ['"a".', "(", "()", "@a,", '"\\'])
    def test_an_address_as_long_as_a_line(self, piece: str) -> None:
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            path = (piece * SMTP_LINE)[: SMTP_LINE - 100]
            assert raw.say(f"MAIL FROM:<{path}a@b.test>") == "553 5.1.3 Error: malformed address"
            assert raw.say("MAIL FROM:<a@b.test>").startswith("250")
            assert raw.say(f"RCPT TO:<{path}a@b.test>") == "553 5.1.3 Error: malformed address"

    def test_one_below_the_bound(self) -> None:
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            quoted = f'"{"a" * 50} {"b" * 50}"@{"c" * 60}.test'
            assert len(quoted) < SMTP_PATH
            assert raw.say(f"MAIL FROM:<{quoted}>").startswith("250")

    @pytest.mark.parametrize("path", ["a b", "<a@b.test", "a@b.test>", "<a@b.test>x", "a b@c.test"])
    def test_a_path_with_half_its_brackets(self, path: str) -> None:
        with FakeSMTP() as fake, Raw(fake).hello() as raw:
            assert raw.say(f"MAIL FROM:{path}")[:3] in ("501", "553")


class TestHeaders:
    def test_a_client_that_offers_gigabytes_for_our_table(self) -> None:
        with FakeHTTP(tls="none") as fake, H2(fake) as client:
            client.send(SettingsFrame(0, settings={SettingsFrame.HEADER_TABLE_SIZE: 2**31}).serialize())
            for size in range(200):
                assert client.get("/" + "x" * size).status == 200
            assert client.decoder.header_table._current_size <= TABLE

    def test_a_table_that_is_resized_again_and_again(self) -> None:
        """The next answer tells the least and the last size, and no other (RFC 7541 §4.2)."""
        encoder = Encoder()
        for _ in range(1_000):
            encoder.header_table_size = 0
            encoder.header_table_size = 2**32 - 1
        assert encoder.table_size_changes == [0, TABLE]
        encoder.header_table_size = 100
        assert encoder.table_size_changes == [0, 100]

    def test_it_is_so_on_a_connection(self) -> None:
        with FakeHTTP(tls="none") as fake, H2(fake) as client:
            for size in [0, 4_096] * 100:
                client.send(SettingsFrame(0, settings={SettingsFrame.HEADER_TABLE_SIZE: size}).serialize())
            number = client.request("/")
            assert client.answer(number).status == 200
            (head,) = [one for one in client.frames if isinstance(one, HeadersFrame)]
            assert head.data.startswith(b"\x20\x3f\xe1\x1f")  # 0, then 4096
            assert head.data[4] & 0xE0 != 0x20
