"""The extensions that a healthy FakeSMTP announces, and the order of commands: each command gets the reply that its RFC
has, with its enhanced status code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notnow import FakeSMTP, ManualClock, ScenarioError
from notnow.journal import Parameters
from notnow.servers.smtp import auth, parameters
from smtp_client import MESSAGE, Raw, one, plain, rules

MAIL, RCPT = "MAIL FROM:<a@client.test>", "RCPT TO:<b@server.test>"
NO = "421 4.3.2 Not now, says the test"
USERS = {"ann": "s3cret"}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


# ---- enhanced status codes (RFC 2034) ------------------------------------------------------------

COMMANDS = (
    "EHLO x", "EHLO", "HELO x", "HELO", MAIL, "MAIL", "MAIL FROM:", "MAIL FROM:<", f"{MAIL} FROB=1", f"{MAIL} SIZE=99999999999",
    f"{MAIL} SIZE=x", f"{MAIL} BODY=9BIT", f"{MAIL} BODY=BINARYMIME", f"{MAIL} RET=HDRS ENVID=1", "MAIL FROM:<ä@x.test>",
    RCPT, "RCPT", "RCPT TO:<>", "RCPT TO:<@>", f"{RCPT} FROB", f"{RCPT} NOTIFY=NEVER", "DATA", "DATA x", "BDAT", "BDAT 0",
    "BDAT 0 LAST", "BDAT x", "BDAT 3 LAST\r\na", "RSET", "RSET x", "NOOP", "NOOP x", "VRFY", "VRFY x", "EXPN x", "HELP", "HELP x",
    "FROB", "", "AUTH", "AUTH X", "AUTH PLAIN =", f"AUTH PLAIN {plain('ann', 's3cret')}", f"AUTH PLAIN {plain('ann', 'x')}",
    "STARTTLS x", "QUIT x",
)  # fmt: skip
_CODED = re.compile(r"([245])\d\d[ -]\1\.\d{1,3}\.\d{1,3}(?: |$)")


@given(st.lists(st.sampled_from(COMMANDS), max_size=25))
@example([MAIL, RCPT, RCPT, "DATA x", "DATA"])
@example(list(COMMANDS))
@settings(max_examples=60, deadline=None)
def test_every_reply_has_an_enhanced_code_of_its_class(said: list[str]) -> None:
    """But for the greeting, the replies to EHLO and HELO, and 3yz (RFC 2034 §4)."""
    for users in (None, USERS):
        with FakeSMTP(users=users) as fake, Raw(fake).hello() as raw:
            for command in said:
                reply = raw.say(command)
                if reply.startswith("354"):
                    reply = raw.say(".")
                if command[:4] not in ("EHLO", "HELO"):
                    assert all(_CODED.match(line) for line in reply.split("\n")), (command, reply)
                else:
                    assert not _CODED.match(reply), reply


def test_with_starttls_as_well() -> None:
    for tls, code in (("none", "502 5.5.1"), ("starttls", "501 5.5.4")):
        with FakeSMTP(tls=tls) as fake, Raw(fake).hello() as raw:
            assert raw.say("STARTTLS x").startswith(code)


# ---- the order of commands -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "command", "reply"),
    [
        ([MAIL, RCPT], "DATA x", "501"),
        ([MAIL, RCPT], "RSET x", "501"),  # RFC 5321 §4.1.1
        ([], "QUIT now", "501"),
        ([], "NOOP anything goes", "250"),
        ([MAIL], f"AUTH PLAIN {plain('ann', 'x')}", "503"),  # RFC 4954 §4
        ([MAIL, RCPT], "AUTH LOGIN", "503"),
        ([MAIL, RCPT, "BDAT 0"], "AUTH CRAM-MD5", "503"),
        ([MAIL, "RSET"], f"AUTH PLAIN {plain('ann', 'x')}", "235"),
        ([MAIL, "EHLO again"], f"AUTH PLAIN {plain('ann', 'x')}", "235"),
        ([MAIL, "EHLO again"], RCPT, "503"),  # RFC 5321 §4.1.4: EHLO is RSET, too
        ([MAIL, "HELO again"], RCPT, "503"),
        (["HELO again"], f"{MAIL} SIZE=10", "501"),
        ([MAIL], MAIL, "503"),
        ([MAIL], "DATA", "503"),
        ([], RCPT, "503"),
        ([MAIL], "RCPT TO:<>", "501"),
        ([MAIL], "RCPT TO:<b@server.test>NOTIFY=NEVER", "553"),
        ([MAIL], "RCPT TO:<δ@π.test>", "553"),  # RFC 6531 §3.5
        ([f"{MAIL} SMTPUTF8"], "RCPT TO:<δ@π.test>", "250"),
        ([], "MAIL FROM:<δ@π.test>", "553"),
        ([], "MAIL FROM:<δ@π.test> SMTPUTF8", "250"),
        ([], f"{MAIL} SMTPUTF8=yes", "501"),
        ([], f"{MAIL} BODY=8BITMIME", "250"),
        ([], f"{MAIL} BODY=8BIT", "501"),
        ([f"{MAIL} BODY=BINARYMIME", RCPT], "DATA", "503"),  # RFC 3030 §3
        ([], f"{MAIL} SIZE=33554433", "552"),  # RFC 1870 §6.1
        ([], f"{MAIL} SIZE=1 SIZE=1", "501"),
        ([], f"{MAIL} FROB=1", "555"),
        ([], f"{MAIL} NOTIFY=NEVER", "555"),
        ([MAIL], f"{RCPT} RET=FULL", "555"),
        ([MAIL, RCPT, "BDAT 0"], "DATA", "503"),  # RFC 3030 §2
        ([MAIL, RCPT, "BDAT 0"], RCPT, "503"),
        ([MAIL, RCPT, "BDAT 0"], MAIL, "503"),
        ([MAIL, RCPT, "BDAT 0", "RSET"], "BDAT 0 LAST", "503"),
        ([MAIL, RCPT, "BDAT 0 LAST"], "BDAT 0 LAST", "503"),
        ([MAIL, RCPT], "BDAT", "501"),
        ([MAIL, RCPT], "BDAT x", "501"),
        ([MAIL, RCPT], "BDAT 1 FIRST", "501"),
        ([], "VRFY", "501"),
        ([], "VRFY ann", "252"),
        ([], "EXPN staff", "502"),
        ([], "HELP NOOP", "214"),
    ],
)
def test_commands_out_of_order_and_malformed_ones(before: list[str], command: str, reply: str) -> None:
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        for line in before:
            assert raw.say(line)[0] == "2", line
        assert raw.say(command)[:3] == reply
        assert raw.say("NOOP").startswith("250")


@pytest.mark.parametrize("line", ["STARTTLS x", "RSET x", "DATA x", "EHLO", MAIL, "QUIT x", "BDAT x"])
def test_a_command_that_is_refused_ends_no_transaction(line: str) -> None:
    full = rules(one("mail", over=1, reply="450 full"))
    with FakeSMTP(full, tls="starttls") as fake, Raw(fake).hello() as first, Raw(fake).hello() as second:
        assert first.say(MAIL).startswith("250")
        assert first.say(line)[0] in "45"
        assert second.say(MAIL) == "450 full"
        assert first.say(RCPT).startswith("250")
        assert first.say("RSET").startswith("250")
        assert second.say(MAIL).startswith("250")


# ---- DSN (RFC 3461) ------------------------------------------------------------------------------


def test_dsn_parameters_are_taken_and_journalled_as_they_are_meant() -> None:
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        assert raw.say(f"{MAIL} RET=hdrs ENVID=QQ+2B314+20159 SIZE=5").startswith("250")
        assert raw.say(f"{RCPT} NOTIFY=success,FAILURE ORCPT=rfc822;b+2Bc@server.test").startswith("250")
        assert raw.say("RCPT TO:<c@server.test>").startswith("250")
        assert raw.say("DATA").startswith("354")
        raw.send(MESSAGE + b".\r\n")
        assert raw.reply().startswith("250")
        mail, recipient = (x for x in fake.journal if isinstance(x.facts, Parameters))
        assert (mail.moment, recipient.moment) == ("mail", "rcpt")
        assert mail.facts.parameters == {"RET": "HDRS", "ENVID": "QQ+314 159", "SIZE": "5"}
        assert recipient.facts.parameters == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;b+c@server.test"}
        envelope = fake.messages[0].envelope
        assert envelope.parameters == mail.facts.parameters
        assert envelope.recipient_parameters == (recipient.facts.parameters, {})


@pytest.mark.parametrize(
    ("known", "text", "code"),
    [
        (parameters.MAIL, "RET=FULL ENVID=x", None),
        (parameters.MAIL, "RET=NONE", "501"),
        (parameters.MAIL, "RET", "501"),
        (parameters.MAIL, "RET=FULL RET=HDRS", "501"),
        (parameters.MAIL, f"ENVID={'x' * 101}", "501"),
        (parameters.MAIL, "ENVID=a+2b", "501"),  # xtext has upper-case digits
        (parameters.MAIL, "ENVID=a+0A", "501"),
        (parameters.MAIL, "ENVID=", "501"),
        (parameters.MAIL, "AUTH=<>", None),
        (parameters.MAIL, "AUTH=a+2Bb@x.test", None),
        (parameters.MAIL, "AUTH=", "501"),
        (parameters.MAIL, "=", "501"),
        (parameters.MAIL, "-X=1", "501"),
        (parameters.MAIL, "X-OWN=1", "555"),
        (parameters.RCPT, "NOTIFY=NEVER", None),
        (parameters.RCPT, "NOTIFY=SUCCESS,FAILURE,DELAY", None),
        (parameters.RCPT, "NOTIFY=NEVER,DELAY", "501"),
        (parameters.RCPT, "NOTIFY=SUCCESS,", "501"),
        (parameters.RCPT, "NOTIFY=SOMETIMES", "501"),
        (parameters.RCPT, "ORCPT=rfc822;x@y.test", None),
        (parameters.RCPT, "ORCPT=utf-8;δ@π.test", None),  # RFC 6533 §3
        (parameters.RCPT, "ORCPT=rfc822", "501"),
        (parameters.RCPT, "ORCPT=;x@y.test", "501"),
        (parameters.RCPT, "ORCPT=rfc822;x=y", "501"),
        (parameters.RCPT, f"ORCPT=rfc822;{'x' * 500}", "501"),
        (parameters.RCPT, "SIZE=1", "555"),
    ],
)
def test_what_a_parameter_may_be(known: dict[str, parameters.Reader], text: str, code: str | None) -> None:
    _, refusal = parameters.read(text, known)
    assert (refusal and refusal[:3]) == code


@given(st.text(st.characters(codec="ascii")))
def test_xtext_is_undone(text: str) -> None:
    encoded = "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)
    assert parameters.xtext(encoded) == text


# ---- CHUNKING (RFC 3030) -------------------------------------------------------------------------


def chunk(data: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n" % (len(data), b" LAST" if last else b"") + data


def begin(raw: Raw, more: str = "") -> Raw:
    assert raw.say(MAIL + more).startswith("250")
    assert raw.say(RCPT).startswith("250")
    return raw


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6), st.booleans())
@example([b".\r\n", b"\r\n.\r\n", b""], True)
@settings(max_examples=30, deadline=None)
def test_what_comes_in_chunks_is_what_was_sent(pieces: list[bytes], pipelined: bool) -> None:
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        begin(raw, " BODY=BINARYMIME")
        said = [chunk(piece, piece is pieces[-1] and i == len(pieces) - 1) for i, piece in enumerate(pieces)]
        if pipelined:
            raw.send(b"".join(said))
            replies = raw.replies(len(said))
        else:
            replies = [raw.send(line) or raw.reply() for line in said]
        assert [reply[:9] for reply in replies] == ["250 2.0.0"] * len(said)
        assert fake.messages[0].envelope.content == b"".join(pieces)
        assert raw.deliver().startswith("250")
        assert fake.journal.count("data") == fake.journal.count("message") == 2


def test_a_chunk_that_is_refused_is_read_and_nothing_of_it_is_kept() -> None:
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        raw.send(chunk(b"NOOP\r\n" * 100_000, last=True) + b"NOOP\r\n")
        assert [reply[:3] for reply in raw.replies(2)] == ["503", "250"]
        begin(raw)
        raw.send(chunk(b"half") + b"RSET\r\n" + chunk(b"NOOP\r\n", last=True))
        assert [reply[:3] for reply in raw.replies(3)] == ["250", "250", "503"]
        assert raw.deliver().startswith("250")
        assert [m.envelope.content for m in fake.messages] == [MESSAGE]


def test_a_message_over_size_in_chunks_is_552_in_constant_memory() -> None:
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        begin(raw)
        megabytes = b"x" * 10_000_000
        for code in ("250", "250", "250", "552", "503"):
            raw.send(chunk(megabytes))
            assert raw.reply()[:3] == code
        assert raw.deliver().startswith("250")
        assert len(fake.messages) == 1


@pytest.mark.parametrize("on", ["data", "body", "message", "any"])
@pytest.mark.parametrize("code", ["421", "450"])
def test_rules_mean_the_same_for_bdat(on: str, code: str) -> None:
    more = {"where": {"command": "BDAT"}} if on in ("any", "data") else {}
    with FakeSMTP(rules(one(on, reply=f"{code} 4.3.2 no", times=1, **more))) as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.send(chunk(MESSAGE, last=True) + b"NOOP\r\n")
        assert raw.reply() == f"{code} 4.3.2 no"
        if code == "421":
            assert raw.ended
            assert fake.journal.connections[0].ended_by == "fake"
        else:
            assert raw.reply().startswith("250")
            begin(raw)
            raw.send(chunk(MESSAGE, last=True))
            assert raw.reply().startswith("250")
        assert len(fake.messages) == (code == "450")


@pytest.mark.parametrize("on", ["data", "body", "message"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [({"close": True}, EOFError), ({"close": "reset"}, ConnectionResetError), ({"stall": True}, TimeoutError)],
)
def test_faults_without_a_word_mean_the_same_for_bdat(
    on: str, fault: dict[str, object], error: type[Exception]
) -> None:
    with FakeSMTP(rules(one(on, **fault))) as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.sock.settimeout(0.5 if error is TimeoutError else 30)
        raw.send(chunk(MESSAGE, last=True))
        with pytest.raises(error):
            raw.reply()
        assert not fake.messages
        assert [x.moment for x in fake.journal if x.rule][-1:] == [on]


def test_a_delay_at_data_is_that_of_the_chunk() -> None:
    clock = ManualClock()
    with FakeSMTP(rules(one("data", delay="10s")), clock=clock) as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.send(chunk(MESSAGE, last=True))
        fake.wait_for(lambda j: j.count("data"))
        fake.settle()
        assert raw.silent()
        clock.advance("10s")
        assert raw.reply().startswith("250")


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_421_amid_the_chunks_comes_when_its_byte_has_passed(pieces: int) -> None:
    with FakeSMTP(rules(one("body", after_bytes=len(MESSAGE) - 3, reply=NO))) as fake, Raw(fake).hello() as raw:
        begin(raw)
        size = -(-len(MESSAGE) // pieces)
        parts = [MESSAGE[i : i + size] for i in range(0, len(MESSAGE), size)]
        for part in parts[:-1]:
            raw.send(chunk(part))
            assert raw.reply().startswith("250")
        raw.send(chunk(parts[-1], last=True))
        assert raw.until_end() == f"{NO}\r\n"
        assert not fake.messages
        assert fake.journal.exchanges[-1].moment == "body"


def test_a_refusal_amid_pipelined_chunks_spoils_all_of_them() -> None:
    """No message may be stored that lacks a chunk."""
    with FakeSMTP(rules(one("body", reply="451 4.3.0 no", times=1))) as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.send(chunk(b"one") + chunk(b"two") + chunk(b"three", last=True))
        assert [reply[:3] for reply in raw.replies(3)] == ["451", "503", "503"]
        assert not fake.messages


def test_kept_then_421_for_bdat() -> None:
    with FakeSMTP(rules(one("message", reply=NO, keep=True))) as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.send(chunk(MESSAGE, last=True))
        assert raw.until_end() == f"{NO}\r\n"
        assert len(fake.messages) == 1


def test_a_scripted_354_at_data_is_no_answer_to_a_chunk() -> None:
    with FakeSMTP(rules(one("data", reply="354 Go ahead, says the test"))) as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.send(chunk(b"one") + chunk(b"two", last=True))
        assert [reply[:3] for reply in raw.replies(2)] == ["250", "250"]
        assert fake.messages[0].envelope.content == b"onetwo"


def test_the_reader_sees_bdat_and_its_reply() -> None:
    from notnow.conduct.pictures.timeline import transcript

    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        begin(raw)
        raw.send(chunk(MESSAGE, last=True))
        raw.reply()
        said = transcript([fake.journal])
        assert f"C  BDAT {len(MESSAGE)} LAST\n" in said
        assert "says nothing" not in said
        fake.assert_delivered()


# ---- AUTH (RFC 4954) -----------------------------------------------------------------------------


def cram(raw: Raw, user: str, password: str) -> str:
    challenge = base64.b64decode(raw.say("AUTH CRAM-MD5").removeprefix("334 "))
    assert re.fullmatch(rb"<\d+\.\d+@fake\.notnow\.test>", challenge)
    return raw.say(b64(f"{user} {hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()}"))


def bearer(user: str, token: str) -> str:
    return b64(f"user={user}\1auth=Bearer {token}\1\1")


def test_cram_md5() -> None:
    with FakeSMTP(users=USERS) as fake, Raw(fake).hello() as raw:
        assert cram(raw, "ann", "wrong").startswith("535")
        assert cram(raw, "bob", "s3cret").startswith("535")
        assert cram(raw, "ann", "s3cret").startswith("235")
        assert raw.deliver().startswith("250")
        assert fake.messages[0].envelope.user == "ann"
    assert auth.MECHANISMS["CRAM-MD5"]


def test_a_challenge_is_never_said_twice() -> None:
    with FakeSMTP() as fake, Raw(fake).hello() as raw:
        said = {raw.say("AUTH CRAM-MD5") for _ in range(5) if raw.say("*")}
        assert len(said) == 5


@pytest.mark.parametrize("initial", [True, False])
def test_xoauth2(initial: bool) -> None:
    def say(token: str) -> str:
        if initial:
            return raw.say(f"AUTH XOAUTH2 {bearer('ann', token)}")
        assert raw.say("AUTH XOAUTH2") == "334 "
        return raw.say(bearer("ann", token))

    with FakeSMTP(users=USERS) as fake, Raw(fake).hello() as raw:
        told = say("expired")
        assert json.loads(base64.b64decode(told.removeprefix("334 ")))["status"] == "401"
        assert raw.say("").startswith("535 5.7.8")
        refused = fake.journal.exchanges[-1]
        assert (refused.moment, refused.codes, refused.refused) == ("auth", (334, 535), True)
        assert say("s3cret").startswith("235")
        assert bearer("ann", "s3cret") not in str(list(fake.journal.as_dicts()))
        assert bearer("ann", "expired") not in str(list(fake.journal.as_dicts()))


def test_a_rule_refuses_any_mechanism_in_its_own_words() -> None:
    with FakeSMTP(rules(one("auth", where={"user": "ann"}, reply="454 4.7.0 later"))) as fake, Raw(fake).hello() as raw:
        assert cram(raw, "ann", "x") == "454 4.7.0 later"
        assert raw.say(f"AUTH XOAUTH2 {bearer('ann', 'x')}") == "454 4.7.0 later"
        assert cram(raw, "bob", "x").startswith("235")


# ---- LIMITS (RFC 9422) ---------------------------------------------------------------------------


def limited(**limits: int) -> FakeSMTP:
    table = ", ".join(f"{name} = {value}" for name, value in limits.items())
    return FakeSMTP(rules(head=f"[server]\nlimits = {{ {table} }}"))


def test_limits_are_announced_where_a_scenario_has_some() -> None:
    with limited(mailmax=2, rcptmax=3, rcptdomainmax=1) as fake, Raw(fake) as raw:
        raw.reply()
        assert "250-LIMITS MAILMAX=2 RCPTMAX=3 RCPTDOMAINMAX=1" in raw.say("EHLO x").split("\n")
    with FakeSMTP() as fake, Raw(fake) as raw:
        raw.reply()
        assert "LIMITS" not in raw.say("EHLO x")


def test_limits_are_kept_to() -> None:
    with limited(mailmax=2, rcptmax=3, rcptdomainmax=2) as fake, Raw(fake).hello() as raw:
        assert raw.say(MAIL).startswith("250")
        told = [
            raw.say(f"RCPT TO:<{address}>")[:9]
            for address in ("a@x.test", "b@X.test", "c@y.test", "d@z.test", "d@x.test")
        ]
        assert told == ["250 2.1.5", "250 2.1.5", "250 2.1.5", "452 4.5.3", "452 4.5.3"]
        assert raw.say("DATA").startswith("354")
        raw.send(MESSAGE + b".\r\n")
        assert raw.reply().startswith("250")
        assert len(fake.messages[0].envelope.recipients) == 3
        assert raw.say(MAIL).startswith("250")
        assert raw.say("RSET").startswith("250")
        assert raw.say(MAIL).startswith("452 4.7.0")


def test_limits_are_checked_when_a_scenario_is_loaded() -> None:
    with pytest.raises(ScenarioError, match=r"server\.limits\.rcptmax"):
        limited(rcptmax=0)
    with pytest.raises(ScenarioError, match="'limits' is for SMTP servers"):
        rules(protocol="http", head="[server]\nlimits = { rcptmax = 1 }")


# ---- a rule that says yes ------------------------------------------------------------------------


@pytest.mark.parametrize("more", ["", " NOTIFY=NEVER", " FROB=1", " NOTIFY=NONSENSE"])
def test_a_scripted_250_takes_effect_whatever_the_parameters(more: str) -> None:
    with FakeSMTP(rules(one(["mail", "rcpt"], reply="250 2.1.5 As you say"))) as fake, Raw(fake).hello() as raw:
        assert raw.say(f"{MAIL}{more}") == "250 2.1.5 As you say"
        assert raw.say(f"{RCPT}{more}") == "250 2.1.5 As you say"
        assert raw.say("DATA").startswith("354")
        raw.send(MESSAGE + b".\r\n")
        assert raw.reply().startswith("250")
        assert fake.messages[0].envelope.recipients == ("b@server.test",)


@pytest.mark.parametrize(
    ("on", "reply", "lines"),
    [
        ("mail", "250 yes", [f"{MAIL} SIZE=99999999", RCPT]),
        ("mail", "250 yes", ["MAIL FROM:<δ@π.test>", RCPT]),
        ("mail", "250 yes", ["MAIL FROM:<first@x.test>", MAIL, RCPT]),
        ("rcpt", "250 yes", [RCPT]),  # without MAIL
        ("rcpt", "250 yes", [MAIL, "RCPT TO:nobody at all"]),
        ("data", "354 yes", [MAIL]),  # without RCPT
    ],
)
def test_what_a_rule_says_yes_to_has_happened(on: str, reply: str, lines: list[str]) -> None:
    with FakeSMTP(rules(one(on, reply=reply))) as fake, Raw(fake).hello() as raw:
        for line in lines:
            assert raw.say(line).startswith("250"), line
        assert raw.say("DATA").startswith("354")
        raw.send(MESSAGE + b".\r\n")
        assert raw.reply().startswith("250")
        assert len(fake.messages) == 1


def test_a_scripted_235_logs_in() -> None:
    with FakeSMTP(rules(one("auth", reply="235 2.7.0 Come in")), users=USERS) as fake, Raw(fake).hello() as raw:
        assert raw.say(f"AUTH PLAIN {plain('bob', 'wrong')}") == "235 2.7.0 Come in"
        assert raw.deliver().startswith("250")
        assert fake.messages[0].envelope.user == "bob"


@pytest.mark.parametrize(("on", "pipelined"), [("data", b""), ("mail", f"{MAIL}\r\n{RCPT}\r\n".encode())])
def test_a_chunk_that_left_with_its_command_is_held_against_nobody(on: str, pipelined: bytes) -> None:
    from notnow.conduct.judging import judge
    from notnow.conduct.reading.run import Run

    with FakeSMTP(rules(one(on, reply=NO))) as fake, Raw(fake).hello() as raw:
        raw.send((pipelined or f"{MAIL}\r\n{RCPT}\r\n".encode()) + chunk(MESSAGE, last=True))
        assert raw.until_end().endswith(f"{NO}\r\n")
        raw.close()
        fake.wait_for(lambda j: "hello" in j.connections[0].after)
        broken = [one for one in judge(Run([fake.journal])) if one.outcome == "broken"]
        assert not [one.finding.why for one in broken if "message was sent" in one.finding.why]
