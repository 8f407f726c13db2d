"""Rules about the host that a connection is made for, and those it is used for."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.journal import CertificateRejected, Failure, HandshakeAbandoned

GET = "GET a.site.test/"


@pytest.fixture
def play() -> Play:
    return Play("http")


@pytest.mark.parametrize(("rule", "versions"), [("http.sni-on-http2", ["2"]), ("http.sni-on-http1", ["1.1", "1.0"])])
class TestSNI:
    def test_held(self, play: Play, rule: str, versions: list[str]) -> None:
        for version in versions:
            play.connect(f"{GET} {{version={version}}}", sni="a.site.test")
        count = "1 request" if len(versions) == 1 else "2 requests"
        play.held(rule, f"{count} on connections with an SNI")

    def test_broken(self, play: Play, rule: str, versions: list[str]) -> None:
        play.connect(f"{GET} {{version={versions[-1]}}}", version="TLSv1.3")
        play.broken(rule, "a.site.test was asked for on a connection without an SNI", "#1", f"#1 {GET}")

    def test_the_other_version_is_another_rule(self, play: Play, rule: str, versions: list[str]) -> None:
        other = "1.1" if versions == ["2"] else "2"
        play.connect(f"{GET} {{version={other}}}", version="TLSv1.3")
        play.not_exercised(rule)

    @pytest.mark.parametrize("host", ["127.0.0.1", "", "localhost", "printer"])
    def test_what_is_no_name_needs_no_sni(self, play: Play, rule: str, versions: list[str], host: str) -> None:
        play.connect(f"GET {host}/ {{version={versions[0]}}}", version="TLSv1.3")
        play.not_exercised(rule)

    def test_not_exercised_in_clear_text(self, play: Play, rule: str, versions: list[str]) -> None:
        play.connect(f"{GET} {{version={versions[0]}}}")
        play.not_exercised(rule)


class TestCoalesceOnlyCovered:
    RULE = "http.coalesce-only-covered"
    FOREIGN = "GET b.site.test/"

    def test_held(self, play: Play) -> None:
        play.connect(GET, self.FOREIGN, sni="a.site.test")
        play.held(self.RULE, "1 request for other hosts, all covered")

    def test_broken(self, play: Play) -> None:
        play.connect(GET, f"{self.FOREIGN} {{misdirected=certificate}}", sni="a.site.test")
        why = "b.site.test was asked for on a connection for a.site.test, whose certificate does not cover it"
        play.broken(self.RULE, why, f"#1 {GET}", f"#1 {self.FOREIGN}")

    def test_broken_by_the_first_request(self, play: Play) -> None:
        play.connect(f"{self.FOREIGN} {{misdirected=certificate}}", sni="a.site.test")
        why = "b.site.test was asked for on a connection for a.site.test, whose certificate does not cover it"
        play.broken(self.RULE, why, f"#1 {self.FOREIGN}")

    def test_without_an_sni_the_first_host_counts(self, play: Play) -> None:
        play.connect(
            f"{GET} {{misdirected=certificate}}", f"{self.FOREIGN} {{misdirected=certificate}}", version="TLSv1.3"
        )
        why = "b.site.test was asked for on a connection for a.site.test, whose certificate does not cover it"
        play.broken(self.RULE, why, f"#1 {GET}", f"#1 {self.FOREIGN}")

    def test_the_name_of_an_sni_has_no_case(self, play: Play) -> None:
        play.connect(f"{GET} {{misdirected=certificate}}", sni="A.site.test")
        play.not_exercised(self.RULE)

    def test_not_exercised_in_clear_text(self, play: Play) -> None:
        play.connect(GET, f"{self.FOREIGN} {{misdirected=certificate}}")
        play.not_exercised(self.RULE)


class TestVerifiesCertificate:
    RULE = "http.verifies-certificate"

    @pytest.mark.parametrize(
        ("defect", "how"),
        [
            ("untrusted", "is of an unknown CA"),
            ("expired", "has expired"),
            ("incomplete", "came without its intermediate"),
        ],
    )
    def test_broken(self, play: Play, defect: str, how: str) -> None:
        play.connect(GET, certificate="wrong", defects=(defect,))
        play.broken(self.RULE, f"a.site.test was asked for on a connection whose certificate {how}", "#1", f"#1 {GET}")

    def test_broken_by_another_name(self, play: Play) -> None:
        play.connect(f"{GET} {{misdirected=certificate}}", sni="a.site.test", certificate="wrong", defects=("name",))
        why = "a.site.test was asked for on a connection whose certificate is for another name"
        play.broken(self.RULE, why, "#1", f"#1 {GET}")

    def test_a_certificate_that_covers_the_host_of_the_request(self, play: Play) -> None:
        play.connect(GET, sni="front.site.test", certificate="wrong", defects=("name",))
        play.not_exercised(self.RULE)

    @pytest.mark.parametrize("failure", [CertificateRejected("unknown_ca"), HandshakeAbandoned(done=False)])
    def test_held(self, play: Play, failure: Failure) -> None:
        line = play.connect("->", certificate="wrong", defects=("untrusted",))
        play.recorders[0].failed(line.connection, failure)
        line.says("(leaves)")
        play.held(self.RULE, "1 connection with a certificate that must not be trusted, and nothing asked on it")

    def test_the_fake_may_end_it(self, play: Play) -> None:
        play.connect("->", "(closes)", certificate="wrong", defects=("untrusted",))
        play.not_exercised(self.RULE)

    def test_a_client_that_was_not_given_the_ca(self, play: Play) -> None:
        line = play.connect("->", certificate="right")
        play.recorders[0].failed(line.connection, CertificateRejected("unknown_ca"))
        line.says("(leaves)")
        why = "it rejected a certificate that the fake's CA has signed: it was not told to trust {ca_file}"
        play.not_exercised(self.RULE, why)

    def test_not_exercised(self, play: Play) -> None:
        play.connect(GET, certificate="right")
        play.connect(GET)
        play.not_exercised(self.RULE)
