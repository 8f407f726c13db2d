"""What the rules of conduct ask of a proxy (`--role proxy`), and where the RFCs ask another thing of intermediaries."""

from __future__ import annotations

import pytest

from conduct_playbook import Play
from notnow.conduct.finding import Finding
from notnow.conduct.judging import all_rules, judge, select
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import ONE_CLIENT

POST, GET = "POST a.site.test/pay {body=5}", "GET a.site.test/"

# A client that the rule judges; the level and the outcome for a proxy that does the same.
OTHERWISE: dict[str, tuple[tuple[tuple[str, ...], ...], str, str]] = {
    "http.no-blind-post": (((f"{POST} -> !",), (POST,)), "must", "broken"),
    "http.in-step": ((("POST a.site.test/ {version=1.1} -> (3s) !200 OK", "GET a.site.test/ {version=1.1}"),), "should", "not exercised"),
    "http.retry-after": (((f"{GET} {{retry-after=60}} -> !503 no",), (GET,)), "should", "not exercised"),
    "http.no-second-blind-retry": (((f"{GET} -> !",),) * 3, "should", "inconclusive"),
    "http.retry-budget": (((f"{GET} -> !503 no",),) * 7, "should", "inconclusive"),
    "http.final-is-final": (((f"{GET} -> !404 no",),) * 3, "should", "inconclusive"),
    "http.retry-elsewhere": (((f"{GET} -> !421 no", GET),), "advice", "inconclusive"),
    "http.retry-once": (((f"{GET} -> !421 no",),) * 3, "advice", "inconclusive"),
    "http.whole-body-again": (((f"{POST} -> !421 no",), ("POST a.site.test/pay",)), "advice", "inconclusive"),
}  # fmt: skip


@pytest.fixture
def play() -> Play:
    return Play("http")


def as_proxy(play: Play, rule: str) -> tuple[str, Finding]:
    """The level and the finding of a rule for a proxy."""
    ((verdict),) = judge(Run(play.journals, proxy=True), select([rule]))
    return verdict.rule.level, verdict.finding


def test_all_other_rules_ask_the_same_of_a_proxy() -> None:
    """RFC 5321 asks the same of relays and gateways (§2.3.10, §3.6, §3.7), and RFC 959 has no intermediaries."""
    assert {rule.id for rule in all_rules() if rule.proxy is not None} == set(OTHERWISE)


@pytest.mark.parametrize("rule", OTHERWISE)
def test_of_a_proxy_another_thing_is_asked(play: Play, rule: str) -> None:
    connections, level, outcome = OTHERWISE[rule]
    for lines in connections:
        play.connect(*lines)
    assert play.find(rule).outcome != "not exercised"
    of_proxy, finding = as_proxy(play, rule)
    assert (of_proxy, finding.outcome) == (level, outcome)
    if outcome == "inconclusive":
        assert play.find(rule).outcome == "broken"
        assert finding.settled_by == ONE_CLIENT
        assert finding.evidence == play.find(rule).evidence
        assert finding.seen.endswith("; or the proxy forwarded the request of another client of its own")


@pytest.mark.parametrize("rule", OTHERWISE)
def test_a_proxy_that_had_no_occasion(play: Play, rule: str) -> None:
    play.connect(GET)
    assert as_proxy(play, rule)[1] == play.find(rule)


def test_what_a_proxy_holds_is_held(play: Play) -> None:
    for _ in range(2):
        play.connect(f"{GET} -> !421 no")
    assert as_proxy(play, "http.retry-elsewhere")[1].outcome == "held"


class TestPosts:
    """RFC 9110 §9.2.2: a proxy MUST NOT automatically retry non-idempotent requests."""

    def found(self, play: Play) -> tuple[str, str]:
        finding = as_proxy(play, "http.no-blind-post")[1]
        return finding.outcome, finding.seen

    def test_a_refusal_for_now_is_no_permission(self, play: Play) -> None:
        play.connect(f"{POST} -> !503 no")
        assert self.found(play) == ("held", "1 got no answer, and did not come again")
        play.wait(1).connect(POST)
        assert self.found(play) == ("broken", "POST was answered 503, and the proxy sent it again")
        play.not_exercised("http.no-blind-post")

    @pytest.mark.parametrize("reply", ["!421 no", "!404 no"])
    def test_what_may_come_again_or_was_refused_for_good(self, play: Play, reply: str) -> None:
        """RFC 9110 §15.5.20: after a 421 the request may be sent again, whatever the method."""
        play.connect(f"{POST} -> {reply}")
        play.wait(1).connect(POST)
        assert self.found(play) == ("not exercised", "")

    @pytest.mark.parametrize("said", ["!RST_STREAM REFUSED_STREAM", "!GOAWAY NO_ERROR, last stream 1"])
    def test_what_the_server_has_not_looked_at(self, play: Play, said: str) -> None:
        play.connect(f"{POST[:-1]}, stream=3}} -> {said}", "(closes)")
        play.connect(POST)
        assert self.found(play)[0] == "held"
