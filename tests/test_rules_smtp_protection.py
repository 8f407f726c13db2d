"""Rules about TLS on the way to an SMTP server."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.journal import CertificateRejected, ConnectionLost

MAIL = "MAIL FROM:<a@x>"


@pytest.fixture
def play() -> Play:
    return Play("smtp")


class TestNoDowngrade:
    RULE = "smtp.no-downgrade"
    HELD = "neither to HELO nor to clear text"
    HELO = "HELO was sent after EHLO had been answered 421"

    def test_held(self, play: Play) -> None:
        play.connect("EHLO x -> !421 no").play.wait("1m")
        play.connect("EHLO x", "HELO x", MAIL)
        play.held(self.RULE, self.HELD)

    def test_broken_by_helo_on_the_next_connection(self, play: Play) -> None:
        play.connect("EHLO x -> !421 no").play.wait("1m")
        play.connect("HELO x")
        play.broken(self.RULE, self.HELO, "#1 EHLO x", "#2 HELO x")

    def test_helo_of_another_name_may_be_another_client(self, play: Play) -> None:
        play.connect("EHLO x -> !421 no").play.wait("1m")
        play.connect("HELO other")
        play.inconclusive(self.RULE, f"{self.HELO}, with another name", "", "#1 EHLO x", "#2 HELO other")

    def test_broken_by_helo_after_the_close(self, play: Play) -> None:
        play.connect("EHLO x -> !421 no", "HELO x")
        play.broken(self.RULE, self.HELO, "#1 EHLO x", "#1")

    def test_another_client_may_say_helo(self, play: Play) -> None:
        play.connect("EHLO x -> !421 no")
        play.connect("HELO x", client="192.0.2.2")
        play.held(self.RULE, self.HELD)

    def test_an_ehlo_that_is_not_known_may_be_followed_by_helo(self, play: Play) -> None:
        play.connect("EHLO x -> !502 no", "HELO x")
        play.not_exercised(self.RULE)

    def test_broken_by_clear_text_after_starttls_was_refused(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> !454 no", MAIL)
        play.broken(self.RULE, "mail came in clear text after TLS had failed", "#1 STARTTLS", f"#1 {MAIL}")

    def test_broken_by_clear_text_after_a_failed_handshake(self, play: Play) -> None:
        play.connect("EHLO x", error="bad certificate").play.wait("1m")
        play.connect("EHLO x", MAIL)
        play.broken(self.RULE, "mail came in clear text after TLS had failed", "#1", f"#2 {MAIL}")

    def test_broken_by_clear_text_after_a_refusal_in_tls(self, play: Play) -> None:
        play.connect("EHLO x", f"{MAIL} -> !421 no", version="TLSv1.3").play.wait("1m")
        play.connect("EHLO x", MAIL)
        play.broken(self.RULE, "mail came in clear text after TLS had failed", f"#1 {MAIL}", f"#2 {MAIL}")

    def test_mail_in_tls_is_no_downgrade(self, play: Play) -> None:
        play.connect("STARTTLS -> !454 no").play.wait("1m")
        play.connect("EHLO x", "STARTTLS -> 220 go", "EHLO x", MAIL, version="TLSv1.3")
        play.held(self.RULE, self.HELD)

    def test_what_came_before_starttls_was_in_clear_text(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> !454 no").play.wait("1m")
        play.connect("EHLO x", MAIL, "STARTTLS -> 220 go", version="TLSv1.3")
        play.broken(self.RULE, "mail came in clear text after TLS had failed", "#1 STARTTLS", f"#2 {MAIL}")

    def test_broken_by_clear_text_after_the_close(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> !421 no", MAIL)
        play.broken(self.RULE, "mail came in clear text after TLS had failed", "#1 STARTTLS", "#1")

    def test_clear_text_of_another_name_may_be_another_client(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> !454 no", "(leaves)").play.wait("1m")
        play.connect("EHLO other", MAIL)
        why = "mail came in clear text after TLS had failed, from this client or another at its address"
        play.inconclusive(self.RULE, why, "", "#1 STARTTLS", f"#2 {MAIL}")

    def test_clear_text_without_a_name_may_be_another_client(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> !454 no", "(leaves)").play.wait("1m")
        play.connect(MAIL)
        why = "mail came in clear text after TLS had failed, from this client or another at its address"
        play.inconclusive(self.RULE, why, "an EHLO with the client's name before TLS", "#1 STARTTLS", f"#2 {MAIL}")

    def test_a_handshake_that_went_well_is_no_occasion(self, play: Play) -> None:
        line = play.connect("EHLO x", "STARTTLS -> 220 go", version="TLSv1.3")
        line.says("[tls] -> …", "EHLO x", MAIL, "QUIT", "(leaves)")
        play.not_exercised(self.RULE)

    def test_not_exercised(self, play: Play) -> None:
        play.connect("EHLO x", f"{MAIL} -> !421 no", "(leaves)")
        play.connect("HELO x", MAIL)
        play.not_exercised(self.RULE)


class TestVerifiesCertificate:
    RULE = "smtp.verifies-certificate"
    BAD = {"version": "TLSv1.3", "certificate": "bad", "defects": ("expired",)}

    def test_held(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> 220 go", **self.BAD).fails(CertificateRejected("certificate_expired"))
        play.held(self.RULE, "it refused the certificate")

    def test_broken_in_implicit_tls(self, play: Play) -> None:
        play.connect("EHLO x", MAIL, **self.BAD)
        play.broken(self.RULE, "it went on after a certificate that has expired", "#1", "#1 EHLO x")

    @pytest.mark.parametrize("later", [(), ("QUIT",)])
    def test_the_name_in_the_handshake_is_no_command(self, play: Play, later: tuple[str, ...]) -> None:
        play.connect("[tls] localhost", *later, "(leaves)", **self.BAD)
        play.held(self.RULE, "it refused the certificate")

    def test_a_connection_that_breaks_in_the_end_was_accepted(self, play: Play) -> None:
        play.connect("EHLO x", MAIL, "QUIT", **self.BAD).fails(ConnectionLost("Connection reset by peer"))
        play.broken(self.RULE, "it went on after a certificate that has expired", "#1", "#1 EHLO x")

    def test_starttls_may_be_opportunistic(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> 220 go", "EHLO x", MAIL, **self.BAD)
        why = "it went on after a certificate that has expired, after STARTTLS"
        play.inconclusive(self.RULE, why, "implicit TLS", "#1", "#1 EHLO x")

    def test_not_exercised_by_a_good_certificate(self, play: Play) -> None:
        play.connect("EHLO x", MAIL, version="TLSv1.3", certificate="good")
        play.not_exercised(self.RULE)

    def test_a_client_that_was_not_told_whom_to_trust(self, play: Play) -> None:
        line = play.connect("EHLO x", "STARTTLS -> 220 go", version="TLSv1.3", certificate="good")
        line.fails(CertificateRejected("unknown_ca"))
        why = "it rejected a certificate that the fake's CA has signed: it was not told to trust {ca_file}"
        play.not_exercised(self.RULE, why)
