"""The rule about certificates that an FTP client must not trust."""

from __future__ import annotations

from typing import Any

import pytest

from conduct_playbook import Play
from notnow.journal import CertificateRejected, HandshakeAbandoned

RULE = "ftp.verifies-certificate"
AUTH = "AUTH TLS -> 234 go on"
HELD = "1 connection with a certificate that must not be trusted, and no command over TLS"
WRONG: dict[str, Any] = {"certificate": "wrong", "defects": ("untrusted",)}


@pytest.fixture
def play() -> Play:
    return Play("ftp")


@pytest.mark.parametrize("failure", [CertificateRejected("unknown_ca"), HandshakeAbandoned(done=True)])
def test_held(play: Play, failure: Any) -> None:
    play.connect(AUTH, **WRONG).fails(failure)
    play.held(RULE, HELD)


@pytest.mark.parametrize("before", [(AUTH,), ("FEAT", AUTH), ()])
@pytest.mark.parametrize("command", ["USER ann", "PBSZ 0", "FEAT"])
def test_broken(play: Play, before: tuple[str, ...], command: str) -> None:
    play.connect(*before, command, **WRONG)
    verb = (command if before or command != "FEAT" else "FEAT").split()[0]
    why = f"{verb} came over TLS with a certificate that is of an unknown CA"
    play.broken(RULE, why, "#1", f"#1 {command}")


def test_broken_by_two_defects(play: Play) -> None:
    play.connect(AUTH, "USER ann", certificate="wrong", defects=("expired", "name"))
    why = "USER came over TLS with a certificate that has expired and is for another name"
    play.broken(RULE, why, "#1", "#1 USER ann")


def test_a_client_that_looks_after_the_handshake_may_say_goodbye(play: Play) -> None:
    play.connect(AUTH, "QUIT", "(leaves)", **WRONG)
    play.held(RULE, HELD)


def test_the_name_in_the_handshake_is_no_command(play: Play) -> None:
    play.connect(AUTH, "[tls] localhost", **WRONG).fails(CertificateRejected("unknown_ca"))
    play.held(RULE, HELD)


def test_commands_before_tls_prove_nothing(play: Play) -> None:
    play.connect("FEAT", "USER ann -> 530 TLS first", AUTH, "(leaves)", **WRONG)
    play.held(RULE, HELD)


def test_not_exercised_where_the_fake_ends_it(play: Play) -> None:
    play.connect(AUTH, "(closes)", **WRONG)
    play.not_exercised(RULE)


def test_not_exercised_by_a_good_certificate(play: Play) -> None:
    play.connect(AUTH, "USER ann", certificate="right")
    play.not_exercised(RULE)


def test_a_client_that_was_not_told_whom_to_trust(play: Play) -> None:
    play.connect(AUTH, certificate="right").fails(CertificateRejected("unknown_ca"))
    why = "it rejected a certificate that the fake's CA has signed: it was not told to trust {ca_file}"
    play.not_exercised(RULE, why)
