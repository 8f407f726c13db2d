"""A mail.log of Postfix as a scenario. The lines are those of Postfix 3.7, with other names; tests/contract has a real one."""

from __future__ import annotations

import io
import tomllib
from typing import Any

import pytest

from notnow.chaos.replay import maillog
from notnow.chaos.replay.making import made
from notnow.chaos.replay.recording import ReplayError
from notnow.language.loading import loads

BUSY = "host mx.test[192.0.2.1] refused to talk to me: 421 4.3.2 All server ports are busy"
GREY = "host mx.test[192.0.2.1] said: 451 4.7.1 Greylisted, try later (in reply to RCPT TO command)"
RATE = (
    "host mx.test[192.0.2.1] said: 421-4.7.28 Our system has detected an unusual rate of 421-4.7.28 mail. Please visit "
    "421-4.7.28  https://support.test/?p=Rate to 421 4.7.28 review our guidelines. x1 - gsmtp (in reply to end of DATA command)"
)
OTHERS = """\
Nov 29 07:38:43 relay postfix/master[13818]: daemon started -- version 3.7.11, configuration /etc/postfix
Nov 29 07:38:44 relay dovecot: imap-login: Login: user=<bob>, method=PLAIN, status=deferred
Nov 29 07:38:44 relay postfix/cleanup[13839]: 1553621801B: message-id=<3@client.test>
"""


def line(
    why: str = BUSY,
    queue: str = "1553621801B",
    to: str = "bob@x.test",
    delays: str = "0.1/0/0/0",
    status: str = "deferred",
    **more: str,
) -> str:
    """A line of smtp(8) about one recipient."""
    told = {"head": "Nov 29 07:38:44 relay postfix/smtp[13846]", "relay": "mx.test[192.0.2.1]:25", "use": "", **more}
    return (
        f"{told['head']}: {queue}: to=<{to}>, relay={told['relay']}, {told['use']}delay=0.2, delays={delays}, dsn=4.3.2, "
        f"status={status} ({why})"
    )


def scenario(*lines: str, **how: Any) -> tuple[list[dict[str, Any]], str]:
    """The rules of what was made of these lines, and the sentence about them."""
    found = made(io.BytesIO("\n".join(lines).encode()), "mail.log", **how)
    loads(found.toml)
    return tomllib.loads(found.toml)["phase"][0].get("rule", []), found.tally


# ---- reasons -----------------------------------------------------------------------------------------

REASONS: list[tuple[str, dict[str, Any]]] = [
    (BUSY, {"on": "connect", "reply": "421 4.3.2 All server ports are busy"}),
    (GREY, {"on": "rcpt", "reply": "451 4.7.1 Greylisted, try later"}),
    (
        RATE,
        {
            "on": "message",
            "reply": [
                "421-4.7.28 Our system has detected an unusual rate of",
                "421-4.7.28 mail. Please visit",
                "421-4.7.28  https://support.test/?p=Rate to",
                "421 4.7.28 review our guidelines. x1 - gsmtp",
            ],
        },
    ),
    ("host mx.test[2001:db8::1] said: 421 4.7.0 {TSS04} (in reply to MAIL FROM command)", {"on": "mail", "reply": "421 4.7.0 {{TSS04}}"}),
    ("host mx.test[192.0.2.1] said: 454 4.3.0 no (in reply to DATA command)", {"on": "data", "reply": "454 4.3.0 no"}),
    ("host mx.test[192.0.2.1] said: 421 (in reply to EHLO command)", {"on": "ehlo", "reply": "421"}),
    ("lost connection with mx.test[192.0.2.1] while receiving the initial server greeting", {"on": "connect", "close": True}),
    ("lost connection with mx.test[192.0.2.1] while performing the EHLO handshake", {"on": "ehlo", "close": True}),
    ("lost connection with mx.test[192.0.2.1] while sending RCPT TO", {"on": "rcpt", "close": True}),
    ("lost connection with mx.test[192.0.2.1] while sending message body", {"on": "body", "close": True}),
    (
        "lost connection with mx.test[192.0.2.1] while sending end of data -- message may be sent more than once",
        {"on": "message", "close": True},
    ),
    ("conversation with mx.test[192.0.2.1] timed out while sending MAIL FROM", {"on": "mail", "stall": True}),
    (
        "TLS is required, but host mx.test[192.0.2.1] refused to start TLS: 454 4.7.0 TLS not available",
        {"on": "starttls", "reply": "454 4.7.0 TLS not available"},
    ),
    ("SASL authentication failed; server mx.test[192.0.2.1] said: 454 4.7.0 later", {"on": "auth", "reply": "454 4.7.0 later"}),
    ("Server certificate not verified", {"on": "tls", "certificate": "untrusted"}),
    ("Cannot start TLS: handshake failure", {"on": "tls", "alert": "handshake_failure"}),
]  # fmt: skip


@pytest.mark.parametrize(("why", "rule"), REASONS, ids=[why[:60] for why, _ in REASONS])
def test_a_reason_becomes_a_fault_at_its_moment(why: str, rule: dict[str, Any]) -> None:
    (found,), tally = scenario(line(why))
    assert {key: value for key, value in found.items() if key not in ("nth", "per")} == rule
    assert found["nth"] == 1
    assert tally == "read 1 line: 1 deferral in 1 delivery"


UNPLAYABLE = [
    ("connect to mx.test[192.0.2.1]:25: Connection refused", "Connection refused (1)"),
    ("connect to mx.test[192.0.2.1]:25: Connection timed out", "Connection timed out (1)"),
    (
        "Host or domain name not found. Name service error for name=mx.test type=MX: Host not found, try again",
        "Host or domain name not found. Name service error for name=mx.test type=MX (1)",
    ),
    (f"delivery temporarily suspended: {BUSY}", "delivery temporarily suspended (1)"),
    ("host mx.test[192.0.2.1] said: 421 4.7.0 bye (in reply to XCLIENT command)", "refused in reply to XCLIENT (1)"),
    ("host mx.test[192.0.2.1] said: what (in reply to DATA command)", "a reply that is cut, or has no code (1)"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "said"), UNPLAYABLE, ids=[said for _, said in UNPLAYABLE])
def test_what_no_scenario_can_repeat_is_said_and_counted(why: str, said: str) -> None:
    relay = "none" if why.startswith(("connect", "Host", "delivery")) else "mx.test[192.0.2.1]:25"
    rules, tally = scenario(line(why, relay=relay), line(queue="2C9A12180A5"))
    assert [rule["on"] for rule in rules] == ["connect"]
    assert tally == f"read 2 lines: 1 deferral in 1 delivery; 1 cannot be played: {said}"
    with pytest.raises(ReplayError, match="a scenario can repeat only what a server has said"):
        scenario(line(why, relay=relay))


# ---- lines -------------------------------------------------------------------------------------------

HEADS = [
    "Nov 29 07:38:44 relay postfix/smtp[13846]",
    "Nov  9 07:38:44.123 relay postfix/smtp[13846]",
    "2026-11-29T07:38:44.123456+00:00 relay postfix/smtp[13846]",
    "2026-11-29T07:38:44Z relay postfix-out/smtp[13846]",
    "<22>Nov 29 07:38:44 relay postfix/relay/smtp[13846]",
    "Nov 29 07:38:44 relay postfix/lmtp[13846]",
]


@pytest.mark.parametrize("head", HEADS)
def test_every_form_of_syslog_is_read(head: str) -> None:
    found = made(io.BytesIO(line(head=head).encode()), "mail.log")
    assert found.tally.startswith("read 1 line: 1 deferral in 1 delivery")
    time = head.removeprefix("<22>").partition(" relay")[0]
    assert found.toml.startswith(f"# Made by notnow replay from mail.log: {time}, by mx.test.\n")


def test_lines_of_other_programs_are_read_around_and_counted() -> None:
    rules, tally = scenario(*OTHERS.splitlines(), line(), line(why="250 2.0.0 Ok", queue="2C9A12180A5", status="sent"))
    assert [(rule["on"], rule["nth"]) for rule in rules] == [("connect", 1)]
    assert tally == "read 5 lines: 1 deferral in 1 delivery; 1 sent; left out 3 lines of other programs"


def test_a_line_that_goes_on_belongs_to_the_one_before() -> None:
    (rule,), tally = scenario(*line(GREY).replace("Greylisted, ", "Greylisted,\n    ").split("\n"))
    assert rule["reply"] == "451 4.7.1 Greylisted, try later"
    assert tally == "read 2 lines: 1 deferral in 1 delivery"


def test_repeated_messages_count_as_often() -> None:
    first, again = line(), line().replace("]: ", "]: message repeated 2 times: [ ", 1) + "]"
    (rule,), tally = scenario(first, again)
    assert (rule["first"], tally) == (3, "read 2 lines: 3 deferrals in 3 deliveries")


def test_a_line_of_a_million_bytes_is_left_out() -> None:
    huge = "x" * 1_500_000
    _, tally = scenario(huge, line(), huge)
    assert tally == "read 3 lines: 1 deferral in 1 delivery; left out 2 lines of more than a million bytes"


def test_hostile_text_is_escaped() -> None:
    found = made(io.BytesIO(line(BUSY + " \x1b[31m \u202e \x7f \udc80").encode("utf-8", "surrogateescape")), "mail.log")
    assert found.toml.isascii() or "\ufffd" in found.toml
    assert not set("\x1b\u202e\x7f").intersection(found.toml)
    assert "\x1b[31m \u202e \x7f" in tomllib.loads(found.toml)["phase"][0]["rule"][0]["reply"]


# ---- who, and how often --------------------------------------------------------------------------------


def test_recipients_of_one_delivery_are_one_event() -> None:
    rules, tally = scenario(line(to="bob@x.test"), line(to="carol@x.test"), line(delays="60/0/0/0"))
    assert [{**rule, "reply": ""} for rule in rules] == [{"on": "connect", "first": 2, "reply": ""}]
    assert tally == "read 3 lines: 3 deferrals in 2 deliveries"


def test_what_everybody_met_at_the_first_try_is_one_rule_for_all() -> None:
    rules, _ = scenario(line(GREY), line(GREY, queue="2C9A12180A5", to="carol@x.test"))
    assert rules == [{"on": "rcpt", "per": "recipient", "nth": 1, "reply": "451 4.7.1 Greylisted, try later"}]


def test_who_met_something_of_his_own_is_named() -> None:
    rules, _ = scenario(
        line(GREY, to="bob[1]@x.test"),
        line("250 2.0.0 Ok", queue="2C9A12180A5", to="carol@x.test", status="sent"),
        line(GREY, to="bob[1]@x.test", delays="300/0/0/0"),
        line("250 2.0.0 Ok", to="bob[1]@x.test", delays="900/0/0/0", status="sent"),
    )
    assert [{k: v for k, v in rule.items() if k != "reply"} for rule in rules] == [
        {"on": "rcpt", "where": {"recipient": "bob[[]1]@x.test"}, "first": 2}
    ]


def test_in_order_the_names_do_not_matter() -> None:
    rules, _ = scenario(
        line("250 2.0.0 Ok", queue="2C9A12180A5", to="carol@x.test", status="sent"), line(GREY), in_order=True
    )
    assert [{k: v for k, v in rule.items() if k != "reply"} for rule in rules] == [{"on": "rcpt", "nth": 2}]


def test_a_421_to_one_recipient_is_one_event_although_postfix_defers_both() -> None:
    told = GREY.replace("451 4.7.1 Greylisted, try later", "421 4.7.0 Go away")
    lost = "lost connection with mx.test[192.0.2.1] while sending RCPT TO"
    rules, _ = scenario(line(told, to="bob@x.test"), line(lost, to="carol@x.test"))
    assert rules == [{"on": "rcpt", "per": "recipient", "nth": 1, "reply": "421 4.7.0 Go away"}]


def test_a_delivery_whose_lines_were_written_late_is_one_delivery() -> None:
    """The last delay ends when the line is written, which takes a busy machine any time."""
    told = GREY.replace("451 4.7.1 Greylisted, try later", "421 4.7.0 Go away")
    lost = "lost connection with mx.test[192.0.2.1] while sending RCPT TO"
    rules, tally = scenario(line(told, to="bob@x.test"), line(lost, to="carol@x.test", delays="0.1/0/0/0.01"))
    assert rules == [{"on": "rcpt", "per": "recipient", "nth": 1, "reply": "421 4.7.0 Go away"}]
    assert tally == "read 2 lines: 2 deferrals in 1 delivery"


def test_the_next_message_on_a_kept_connection_is_another_delivery() -> None:
    _, tally = scenario(line(BUSY, use="conn_use=2, "), line(BUSY, to="carol@x.test", use="conn_use=3, "))
    assert tally == "read 2 lines: 2 deferrals in 2 deliveries"


def test_a_try_that_fails_early_is_not_counted_later() -> None:
    """The first RCPT of this recipient is that of the second try."""
    rules, _ = scenario(line(BUSY), line(GREY, delays="300/0/0/0"))
    assert [(rule["on"], rule["nth"]) for rule in rules] == [("connect", 1), ("rcpt", 1)]


def test_a_kept_connection_is_no_new_one() -> None:
    rules, _ = scenario(
        line("250 2.0.0 Ok", status="sent"),
        line("250 2.0.0 Ok", queue="2C9A12180A5", status="sent", use="conn_use=2, "),
        line(BUSY, queue="21B5E21801D"),
    )
    assert [(rule["on"], rule["nth"]) for rule in rules] == [("connect", 2)]


def test_one_relay_may_be_picked() -> None:
    other = line(GREY, queue="2C9A12180A5", relay="MX.other.test[192.0.2.9]:25")
    rules, tally = scenario(line(), other, relay="*.other.test")
    assert [rule["on"] for rule in rules] == ["rcpt"]
    assert tally == "read 2 lines: 1 deferral in 1 delivery; left out 1 line of other programs"


def test_too_many_deliveries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maillog, "MOST", 2)
    with pytest.raises(ReplayError, match=r"more than 2 deliveries; cut out the part that matters, or use --relay"):
        scenario(*(line(queue=f"15536218{n:03}") for n in range(3)))
