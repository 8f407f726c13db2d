"""Small inputs that would cost much: each has a bound, and the work is counted in calls, not in seconds."""

from __future__ import annotations

import gzip
import io
import json
import signal
import smtplib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import hpack
import pytest
from hyperframe.frame import ContinuationFrame, HeadersFrame, SettingsFrame

from control_api import running
from http_client import H2
from notnow import FakeFTP, FakeHTTP, FakeSMTP, protocols
from notnow.bounds import SMTP_LINE, SMTP_PATH, TABLE
from notnow.chaos.replay import maillog, making
from notnow.chaos.replay.recording import ReplayError
from notnow.engine import matching
from notnow.errors import ScenarioError
from notnow.language.knobs import UNKNOWN
from notnow.language.limits import PATTERN, PATTERNS, PER_PATTERN
from notnow.language.loading import loads
from notnow.servers.ftp.files import Files
from notnow.servers.ftp.filesystem import MemoryFS
from notnow.servers.http.floods import BLOCK, Decoder, Encoder
from notnow.servers.smtp.message import Envelope, Message
from notnow.servers.smtp.parsing import parsed
from smtp_client import Raw
from test_control_hostile import exchange, request, status

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


HEAD = 'protocol = "smtp"\n[[phase]]\nname = "a"\n[[phase.rule]]\non = "connect"\nreply = "421 %s"\n'


# A moment at which each fact of each protocol is known.
ASKED = [
    (
        one.name,
        next(name for name in one.moments if fact in one.facts_at(name)),
        fact if fact != "header" else "header.x",
    )
    for one in protocols.every()
    for fact in one.facts
]


def refusal(toml: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        loads(toml)
    return str(caught.value)


class TestScenarios:
    """The text of a scenario may come from a caller of the control API, which takes a million characters."""

    def test_knobs_that_stand_in_each_other(self) -> None:
        """A billion laughs: ten of each in the one before."""
        knobs = "".join(f'k{n} = "{f"{{k{n + 1}}}" * 10}"\n' for n in range(20))
        with at_most(30_000_000):
            said = refusal(f'protocol = "smtp"\n[params]\n{knobs}k20 = "x"\n' + HEAD.partition("\n")[2] % "{k0}")
        assert "the knobs make it longer than 1,000,000 characters" in said

    def test_a_long_knob_that_is_used_often(self) -> None:
        knob = f'protocol = "smtp"\n[params]\na = "{"x" * 100_000}"\n'
        with at_most(100_000):
            assert "the knobs make it longer" in refusal(knob + HEAD.partition("\n")[2] % ("{a}" * 1_000))

    @pytest.mark.parametrize("names", [1, 2_000])
    def test_placeholders_that_there_are_not(self, names: int) -> None:
        text = "".join(f"{{no{n % names}}}" for n in range(20_000))
        with at_most(2_000_000):
            said = refusal(HEAD % text)
        assert said.count("there is no placeholder") == min(names, UNKNOWN)

    @pytest.mark.parametrize("text", ["[" * 100_000, "{a=" * 100_000, "a." * 100_000])
    def test_nested_without_end(self, text: str) -> None:
        assert refusal(f"x = {text}" if text[0] in "[{" else f"{text} = 1")

    @pytest.mark.parametrize(("protocol", "moment", "key"), ASKED)
    def test_a_text_that_takes_long_to_compile(self, protocol: str, moment: str, key: str) -> None:
        rule = f'protocol = "{protocol}"\n[[phase]]\nname = "a"\n[[phase.rule]]\non = "{moment}"\n{{}}\n'
        for text in ("[" * (PATTERN + 1), "/" + "[" * PATTERN, "a" * 900_000):
            for value in (f"'{text}'", f"['x', '{text}']"):
                said = refusal(rule.format(f"where.{key} = {value}"))
                assert f"a text of at most 1,000 characters; this one has {len(text):,}" in said
                assert len(said) < 1_000

    @pytest.mark.parametrize("text", ["*" * PATTERN, "[a]" * (PATTERN // 3), "[" * PATTERN, "é" * PATTERN])
    def test_a_text_that_does_not(self, text: str) -> None:
        loads(HEAD.replace("connect", "message") % "no" + f"where.header.subject = ['x', '{text}']\n")

    def test_many_texts(self) -> None:
        """Those of a list, of a header and of another rule count together."""
        rule = HEAD.replace("connect", "message") % "no" + "where = { sender = %s, header = { x = '' } }\n"
        texts = ["x" * (PATTERN - PER_PATTERN)] * (PATTERNS // PATTERN // 2 - 1) + ["x" * (PATTERN - 2 * PER_PATTERN)]
        another = (rule % texts).partition('name = "a"\n')[2]
        loads(rule % texts + another)
        said = refusal(rule % [*texts, ""] + another * 3)
        assert said.count("too long together") == 1
        assert (
            "phase[0].rule[1].where: the texts in 'where' are too long together, from here on: 200,010 characters"
            in said
        )

    def test_ever_so_many_short_texts(self) -> None:
        texts = [f"{n:x}" for n in range(20_000)]
        with at_most(2_500_000):  # to compile them all takes four times as many
            assert "too long together" in refusal(HEAD.replace("connect", "ehlo") % "no" + f"where.command = {texts}\n")

    @pytest.mark.parametrize(
        ("names", "fault"),
        [
            (["a/" * 400_000], "is too long: a path has at most 4,096 bytes"),
            ([f"{n}/" + "a/" * 2_000 for n in range(200)], "there are more than 10,000 directories"),
        ],
    )
    def test_a_name_with_ever_so_many_directories(self, names: list[str], fault: str) -> None:
        """One of a megabyte would take a hundred gigabytes."""
        lines = "".join(f"'{name}' = 'x'\n" for name in names)
        assert fault in refusal(f'protocol = "ftp"\n[server.files]\n{lines}')
        files = dict.fromkeys(names, b"x")
        with pytest.raises(ScenarioError, match=fault):
            FakeFTP(files=files).start()
        with FakeFTP(files={}) as fake, pytest.raises(ValueError, match=fault):
            fake.files.update(files)

    def test_a_glob_that_backtracks(self) -> None:
        """fnmatch makes each star atomic; otherwise this would take longer than anybody lives."""
        (test,) = matching.tests({"sender": "*a" * 50 + "b"})
        signal.setitimer(signal.ITIMER_VIRTUAL, 20)  # seconds of processor time, which ends the test run
        assert test[1]("a" * 1_000) is False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


class TestControl:
    def post(self, body: bytes, *headers: bytes) -> tuple[int, bytes]:
        with running() as api:
            answer = exchange(api, request(b"POST /v1/servers", body, *headers))
            return status(answer), answer

    def test_a_body_nested_without_end(self) -> None:
        code, said = self.post(b'{"knobs": ' + b"[" * 1_000_000)
        assert (code, b"nested too deeply" in said) == (400, True)

    def test_a_body_that_would_have_to_be_unpacked(self) -> None:
        """No body is ever unpacked, so no small one becomes a large one."""
        code, said = self.post(gzip.compress(b" " * 10_000_000), b"Content-Encoding: gzip")
        assert (code, b"the body is no JSON" in said) == (400, True)

    @pytest.mark.parametrize(
        "more",
        [
            {"upstream": "http://127.0.0.1:22"},
            {"forward": "smtp://127.0.0.1:25"},
            {"app": "os:system"},
            {"host": "0.0.0.0"},
            {"host": "192.0.2.1"},
            {"scenario": "/etc/passwd"},
            {"scenario": "../x.toml"},
            {"files": "/etc"},
        ],
    )
    def test_it_opens_no_file_and_no_way_to_another_server(self, more: dict[str, object]) -> None:
        code, _ = self.post(json.dumps({"scenario": "smtp/healthy", **more}).encode())
        assert code == 422


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


class TestPatterns:
    def test_one_that_goes_through_many_directories(self) -> None:
        """Each was looked for among all files: one line took a minute, in which nobody else was served."""
        files = Files(
            {f"{n}/": b"" for n in range(2_000)} | {"d/e/x": b"", "d/e/f/": b"", ".h/x/y": b""}, None, lambda: 0.0
        )
        session = SimpleNamespace(host=SimpleNamespace(files=files))
        with at_most(50_000):
            assert MemoryFS("/", session).matches("/*/*/?") == ("/", ["d/e/f", "d/e/x"])


NESTED = "".join(f"Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n" for n in range(1_200))


class TestMail:
    """Python's parser of mail fails on some, and takes time with the square of a field."""

    def kept(self, content: bytes) -> Message:
        """What `messages` holds of a message that is between two others."""
        with FakeSMTP() as fake, smtplib.SMTP(fake.host, fake.port, timeout=60) as client:
            for one in (b"Subject: a\n\n", content, b"Subject: b\n\n"):
                client.sendmail("a@b.test", ["c@d.test"], one)
            fake.assert_delivered(to="c@d.test", count=3)
            first, found, last = fake.messages
            assert (first["Subject"], last["Subject"]) == ("a", "b")
            return found

    def test_parts_within_parts(self) -> None:
        found = self.kept(NESTED.encode())
        assert found.envelope.content == NESTED.encode()
        assert found.get_content_type() == "multipart/mixed"
        assert "boundary=b1199" in str(found.get_payload())

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            (b"Content-Type: " + b"(" * 4_000, "(" * 4_000),
            (b"To: " + b"(" * 4_000 + b"\xff\r\n x", "(" * 4_000 + "? x"),
            (b"Message-ID: <<<", "<<<"),
        ],
    )
    def test_a_field_that_cannot_be_parsed(self, field: bytes, text: str) -> None:
        found = self.kept(field + b"\r\n\r\nx\r\n")
        assert found[field.partition(b":")[0].decode()] == text
        assert found.get_payload() == "x\n"

    @pytest.mark.parametrize(
        ("field", "most"),
        [("To: " + "a@b.test, " * 8_000, 4_000_000), ("Content-Type: text/plain" + "; a*0*=x" * 2_000, 1_000_000)],
    )
    def test_a_field_that_takes_long(self, field: str, most: int) -> None:
        envelope = Envelope("", (), f"{field}\r\n\r\nx\r\n".encode(), 0.0, 1)
        with at_most(most):
            message = parsed(envelope)
            assert str(message[field.partition(":")[0]])
            assert message.get_content_type() == "text/plain"

    def test_a_thousand_recipients_are_read(self) -> None:
        everybody = ", ".join(f"somebody{n}@example.test" for n in range(1_000))
        found = self.kept(f"To: {everybody}\n\nx\n".encode())
        assert len(found["To"].addresses) == 1_000


class TestHeaders:
    def test_a_client_that_offers_gigabytes_for_our_table(self) -> None:
        with FakeHTTP(tls="none") as fake, H2(fake) as client:
            client.send(SettingsFrame(0, settings={SettingsFrame.HEADER_TABLE_SIZE: 2**31}).serialize())
            for size in range(200):
                assert client.get("/" + "x" * size).status == 200
            assert client.decoder.header_table._current_size <= TABLE

    def test_a_block_that_is_longer_than_its_list_may_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It comes in 64 frames, and is not decoded: that alone would take a second."""
        longest = hpack.Encoder().encode([("x", "\x16" * 65_000)])  # each takes 30 bits
        assert 65_000 * 3 < len(longest) <= BLOCK
        assert len(Decoder().decode(longest, raw=True)) == 0, "no request, but decoded"
        with FakeHTTP(tls="none") as fake, H2(fake) as client:
            client.ping()
            monkeypatch.delattr(hpack.hpack, "decode_huffman")
            client.send(HeadersFrame(1, b"", flags=["END_STREAM"]).serialize())
            part = ContinuationFrame(1, longest[:16_000])
            client.send(part.serialize() * 30)
            part.flags.add("END_HEADERS")
            client.send(part.serialize())
            client.rest()
            assert client.farewells == [(0, "ENHANCE_YOUR_CALM")]

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
