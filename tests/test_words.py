"""Scenarios in plain words, as `notnow show` prints them."""

from __future__ import annotations

import pytest

from notnow import words as plain
from notnow.language import catalogue
from notnow.language.loading import loads
from notnow.units import ordinal


def rule(text: str, rest: str = "", head: str = "") -> tuple[str, str]:
    """When the only rule of a scenario acts, and what is done then."""
    scenario = loads(f'protocol = "smtp"\n{head}\n[[phase]]\n[[phase.rule]]\n{text}\n{rest}')
    said = plain.phases(scenario)[0].rules[0]
    return said.when, said.does


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ('on = "mail"', "at mail"),
        ('on = ["mail", "rcpt"]', "at mail or rcpt"),
        ('on = "rcpt"\nnth = 2\nper = "connection"', "at rcpt, only the 2nd, counted for each connection"),
        ('on = "rcpt"\nevery = 3', "at rcpt, every 3rd"),
        ('on = "mail"\nfirst = 4', "at mail, only the first 4"),
        ('on = "mail"\nfirst = 1', "at mail, only the first"),
        (
            'on = "rcpt"\nfirst = "5m"\nper = ["client", "sender", "recipient"]',
            "at rcpt, for 5m from the first one, counted for each client, sender and recipient",
        ),
        ('on = "mail"\nafter = 4', "at mail, after the first 4"),
        ('on = "mail"\nafter = "90s"', "at mail, from 1m 30s after the first one"),
        ('on = "connect"\nover = 10', "at connect, when 10 are in already"),
        ('on = "mail"\nover = 3\nper = "user"', "at mail, when 3 are in progress already, counted for each user"),
        ('on = "message"\nover = 500\nwithin = "24h"', "at message, when 500 were let through in the last 1d"),
        ('on = "mail"\nchance = "25%"', "at mail, with a chance of 25%"),
        ('on = "mail"\nchance = "100%"', "at mail, with a chance of 100%"),
        ('on = "mail"\ntimes = 1', "at mail, at most once"),
        ('on = "mail"\ntimes = 3\nper = "client"', "at mail, at most 3 times for each client"),
        ('on = "rcpt"\nwhere = { recipient = "bad*" }', "at rcpt, if recipient is like bad*"),
        ('on = "mail"\nwhere = { user = "*" }', "at mail, if user is present"),
        ('on = "mail"\nwhere = { tls = false }', "at mail, if tls is false"),
        ('on = "mail"\nwhere = { user = ["ann", "none"] }', "at mail, if user is ann or is absent"),
        (
            'on = "message"\nwhere = { header = { dkim-signature = "none" } }',
            "at message, if the header dkim-signature is absent",
        ),
        ('on = "idle"\nafter = "5m"', "after 5m of silence"),
        ('on = "idle"\nafter = "5m"\nsince = "connect"', "after 5m of silence since it connected"),
    ],
)
def test_when_a_rule_acts(text: str, when: str) -> None:
    assert rule(text, 'reply = "421 no"')[0] == when


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ('on = "mail"\nreply = "421 no"', "says, then closes"),
        ('on = "mail"\nreply = "421 no"\nclose = false', "says"),
        ('on = "mail"\nreply = "451 no"', "says"),
        ('on = "mail"\nreply = "421 no"\nclose = "reset"', "says, then resets the connection (RST)"),
        ('on = "mail"\nclose = "abrupt"', "closes abruptly, even with bytes in flight"),
        ('on = "message"\nreply = "250 ok"', "lets it take effect, and says"),
        ('on = "connect"\nreply = "220 hi"', "lets the client in, and says"),
        ('on = "message"\nreply = "421 no"\nkeep = true', "lets it take effect, and says, then closes"),
        ('on = "message"\nclose = true\nkeep = true', "lets it take effect without a reply, then closes"),
        ('on = "mail"\nstall = true', "never answers"),
        ('on = "mail"\ndelay = "5s"', "waits 5s, then behaves"),
        ('on = "mail"\nreply = "421 no"\ndrip = "100ms"', "says byte by byte (100ms apart), then closes"),
        ('on = "body"\nafter_bytes = 100\nclose = true', "once 100 bytes have passed, closes"),
        ('on = "tls"\nalert = "unrecognized_name"', "refuses the handshake with the TLS alert unrecognized_name"),
        ('on = "mail"', "behaves: an exception to the rules after it"),
    ],
)
def test_what_is_done(text: str, does: str) -> None:
    assert rule(text)[1] == does


def test_the_words_of_a_certificate() -> None:
    assert rule('on = "tls"\ncertificate = "a"', head="[certificate.a]")[1] == "shows the certificate 'a'"


def ends(text: str) -> list[str]:
    return [phase.ends for phase in plain.phases(loads(f'protocol = "smtp"\n{text}'))]


def test_how_phases_end() -> None:
    assert ends("") == ["all the time"]
    assert ends('[[phase]]\nlasts = "30m"\n[[phase]]') == ["for 30m", "from then on"]
    assert ends('[[phase]]\nlasts = "10s"\nuntil = { connect = 3 }\n[[phase]]')[0] == "for 10s or until the 3rd connect"
    assert ends("[[phase]]\n[[phase]]")[0] == "until next_phase() is called"
    repeated = ends('repeat = true\n[[phase]]\nlasts = "1s"\n[[phase]]\nlasts = "2s"')
    assert repeated == ["for 1s", "for 2s, then from the start again"]


def test_knobs_have_types_and_comments() -> None:
    text = """\
protocol = "smtp"

[params]
# What is said, and not
# "what # is meant".
said  = "no # more"
often = 3     # how often
share = "20%"
long  = "5s"
keep  = true

[[phase]]
[[phase.rule]]
on     = "mail"
reply  = "451 {said}"
times  = "{often}"
chance = "{share}"
delay  = "{long}"
keep   = "{keep}"
"""
    found = [(k.name, k.default, k.kind, k.comment) for k in plain.knobs(loads(text))]
    assert found == [
        ("said", "no # more", "text", 'What is said, and not "what # is meant".'),
        ("often", "3", "whole number", "how often"),
        ("share", "20%", "percentage", ""),
        ("long", "5s", "duration", ""),
        ("keep", "true", "true or false", ""),
    ]


def test_faults_are_shown_as_the_file_has_them() -> None:
    found = dict(plain.faults(catalogue.scenario("smtp/idle-timeout")))
    assert found["postfix"] == "421 4.4.2 {host} Error: timeout exceeded"
    assert found["gmail-451"] == "451 4.4.2 Timeout - closing connection.  (close = true)"
    assert found["aiosmtpd"] == "close = true"


def test_what_is_expected_of_a_client() -> None:
    text = """\
protocol = "smtp"
[expect]
delivered = { times = 2 }
no_duplicates = true
retried = { times = 3, within = "10m", first_delay = "1m", backoff = "exponential" }
never_exceeded = { connections = 5 }
"""
    assert plain.expectations(loads(text)) == [
        "It delivers every message exactly twice.",
        "It does not resend a message that the server has accepted.",
        "It tries again, at least 3 times, after a first wait of at least 1m, within 10m of the first refusal, "
        "with exponential back-off.",
        "It never has more than 5 connections at a time.",
    ]


def test_how_the_server_is_set_up() -> None:
    text = """\
protocol = "ftp"
[server]
tls = "implicit"
users = { ann = "word", bob = "sesame" }
files = { "a.txt" = "a", "b.bin" = "2MB" }
quota = "10MB"
"""
    assert plain.server(loads(text)) == [
        "The server speaks TLS: implicit.",
        "Only ann (password word) and bob (password sesame) may log in.",
        "It holds a.txt and b.bin.",
        "It has room for 10 MB.",
    ]
    assert plain.server(loads('protocol = "ftp"')) == []
    empty = loads('protocol = "ftp"\n[server]\nusers = {}\nfiles = {}')
    assert plain.server(empty) == ["Nobody may log in.", "It holds no files."]


def test_ordinals() -> None:
    wanted = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "101st", "111th"]
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 101, 111)] == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('on = "request"\nstatus = 503', ("at request", "answers")),
        ('on = "request"\nstatus = 204', ("at request", "lets it take effect, and answers")),
        ('on = "response"\nheaders = { age = "5" }', ("at response", "behaves, and adds")),
        ('on = "response"\ndrip = "1s"', ("at response", "behaves byte by byte (1s apart)")),
        ('on = "connect"\nstatus = 503\nover = 3', ("at connect, when 3 are in already", "answers, then closes")),
        (
            'on = "request"\nover = 3\nreset_stream = "REFUSED_STREAM"',
            ("at request, when 3 are in progress already", "resets the stream (RST_STREAM REFUSED_STREAM)"),
        ),
        ('on = "request"\ngoaway = true', ("at request", "sends GOAWAY NO_ERROR, then behaves")),
        (
            'on = "request"\ngoaway = { last = "previous" }',
            ("at request", "sends GOAWAY NO_ERROR, this request not served"),
        ),
        ('on = "request"\norigin = "https://a.test"', ("at request", "declares the connection good for https://a.test (ORIGIN), then behaves")),
        ('on = "request"\nafter_bytes = 9\nstatus = 421', ("at request", "once 9 bytes have passed, answers")),
        ('on = "request"\nwhere = { misdirected = "sni" }', ("at request, if its host is not the SNI", "behaves: an exception to the rules after it")),
        (
            'on = "request"\nwhere = { misdirected = ["certificate", "none"] }\nstatus = 421',
            ("at request, if the certificate does not cover its host or it is on the right connection", "answers"),
        ),
        (
            'on = "request"\nwhere = { misdirected = true }\nstatus = 421',
            ("at request, if it is on the wrong connection", "answers"),
        ),
    ],
)  # fmt: skip
def test_what_http_rules_do(text: str, words: tuple[str, str]) -> None:
    made = plain.phases(loads(f'protocol = "http"\n[[phase]]\n[[phase.rule]]\n{text}\n'))[0].rules[0]
    assert (made.when, made.does) == words


def test_a_fault_of_http_in_a_line() -> None:
    faults = dict(plain.faults(catalogue.scenario("http/coalesced")))
    assert faults["contour"] == "status = 421"
    assert faults["apache"] == (
        "status = 421, content-type: text/html; charset=iso-8859-1, "
        'body = <!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN"> …'
    )
