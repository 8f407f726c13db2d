"""Rules about the host that a connection is made for, and those it is used for."""

from __future__ import annotations

import pytest

from conduct_playbook import Play

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

    @pytest.mark.parametrize("host", ["127.0.0.1", ""])
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
