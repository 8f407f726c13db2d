"""Assertions about what a client did. They read the journal, and show a picture of it when they fail."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from notnow.conduct import arguments, expectations, expected, judging
from notnow.conduct.expectations import Bound
from notnow.conduct.finding import Finding
from notnow.conduct.pictures import verdict
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import LEVELS, up_to
from notnow.journal import Journal
from notnow.terminal import safe_lines

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

SHAPES = ("constant", "linear", "exponential")


class Assertions:
    """The assertions of every fake."""

    journal: Journal

    @property
    @abstractmethod
    def scenario(self) -> Scenario:
        """The scenario that is playing."""

    def assert_delivered(self, times: int = 1) -> None:
        """Every message was stored exactly `times` times, and there was at least one.

        Two messages are copies if they have the same Message-ID, or no Message-ID and the same content.
        FTP: every file whose transfer began came through whole, up or down, exactly `times` times. Listings count
        only if the client asked for nothing else. An upload with changed content counts as another file.
        HTTP: every request got a good answer (below 400) in the end, and each request that is not idempotent (POST,
        PATCH) was carried out exactly `times` times. `times=0` is `assert_not_delivered()`.
        """
        __tracebackhide__ = True
        arguments.whole("times", times)
        protocol, exchanges = self.journal.protocol, self.journal.exchanges
        if times == 0:
            require(expectations.not_delivered(protocol, exchanges), self.journal)
        else:
            require(expectations.delivered(protocol, exchanges, times), self.journal)

    def assert_not_delivered(self) -> None:
        """Nothing came through: no message was stored, no file was transferred whole, no request got a good answer.

        It also passes if no client connected: use `wait_for` to make sure that one did.
        """
        __tracebackhide__ = True
        require(expectations.not_delivered(self.journal.protocol, self.journal.exchanges), self.journal)

    def assert_no_duplicates(self) -> None:
        """No message was stored twice (RFC 5321 §4.2.5: with the 250 after the dot, the server takes responsibility).

        FTP: no file was uploaded whole twice with the same content. HTTP: no request that is not idempotent was
        carried out twice with the same content, whatever the server answered (RFC 9110 §9.2.2).
        """
        __tracebackhide__ = True
        require(expectations.no_duplicates(self.journal.protocol, self.journal.exchanges), self.journal)

    def assert_retried(
        self,
        times: int | tuple[int, int] | None = None,
        within: float | str | None = None,
        first_delay: Bound | None = None,
        backoff: str | None = None,
    ) -> None:
        """The client tried again after a refusal.

        `times`: how often, at least; or a range. `within`: it did so within this time after the first refusal
        (seconds, or "10m"). `first_delay`: how long it waited before it first tried again, at least; or a range.
        `backoff`: "constant", "linear" or "exponential", which takes at least three gaps. Jitter (±p %, equal, full,
        decorrelated or added) and a cap are part of each. It fails only where the gaps contradict the claim: with
        gaps that a client of this family has in fewer than 1 % of runs.
        """
        __tracebackhide__ = True
        if times is not None:
            arguments.often("times", times)
        if within is not None:
            arguments.time("within", within)
        if first_delay is not None:
            arguments.bound("first_delay", first_delay)
        if backoff is not None:
            arguments.one_of("backoff", backoff, SHAPES)
        finding = expectations.retried(self.journal.exchanges, times, within, first_delay, backoff)
        require(finding, self.journal)

    def assert_new_connection_after(self, code: int) -> None:
        """After a reply with this code the client tried again, and each time on another connection.

        A 421 is about the connection: in SMTP and FTP it ends the connection, and in HTTP it says that the request
        came on the wrong one (RFC 5321 §3.8, RFC 959 §4.2.1, RFC 9110 §15.5.20).
        """
        __tracebackhide__ = True
        arguments.whole("code", code, 400, 599, "the code of a refusal, 400 to 599, such as 421")
        require(expectations.new_connection_after(self.journal.exchanges, code), self.journal)

    def assert_never_exceeded(self, connections: int) -> None:
        """The client had at most this many connections at a time; refused ones count too."""
        __tracebackhide__ = True
        arguments.whole("connections", connections)
        require(expectations.never_exceeded(self.journal.connections, connections), self.journal)

    def assert_conduct(self, *rules: str, level: str = "must") -> None:
        """The client broke no rule of conduct of this level ("must", "should" or "advice") or a stricter one.

        `rules` are ids or patterns of the only rules to judge, whatever their level; `notnow conduct` lists all rules.
        Without `rules`, the client must also have done what the scenario expects. The assertion fails if no client
        connected. Raises UnknownRuleError for an unknown id.
        """
        __tracebackhide__ = True
        for rule in rules:
            arguments.a_type("a rule", rule, "the id of a rule, or a pattern; `notnow conduct` lists them", str)
        arguments.one_of("level", level, LEVELS)
        require(_conduct(self.journal, self.scenario, rules, level), self.journal)
        if not rules:
            self.assert_expected()

    def assert_fell_back_to(self, other: Assertions, within: float | str | None = None) -> None:
        """After a refusal by this server, the client connected to the other, which shares this one's clock.

        `within`: it did so within this time after the first refusal, in seconds or as "10s".
        """
        __tracebackhide__ = True
        _check_other(self, other)
        if within is not None:
            arguments.time("within", within)
        require(expectations.fell_back(self.journal, other.journal, within), self.journal, other.journal)

    def assert_gave_up(self, after: float | str) -> None:
        """The client kept trying for this long after its first refusal, in seconds or as "5d", and then gave up.

        RFC 5321 §4.5.4.1 says for how long a client should keep trying. A client that checks the age of its message
        after a failed try gives up with its first try past that time, so one such try is allowed.
        """
        __tracebackhide__ = True
        arguments.time("after", after)
        require(expectations.gave_up(self.journal.exchanges, after), self.journal)

    def assert_expected(self) -> None:
        """The client did what the scenario expects of a well-behaved one, since the scenario was last played."""
        __tracebackhide__ = True
        require(expectations.first_unmet(expected.findings(self)), self.journal)


def require(finding: Finding, *journals: Journal) -> None:
    """Raise an AssertionError unless the finding was held. It says why, and shows these journals with the evidence
    marked.
    """
    __tracebackhide__ = True
    if finding.outcome != "held":
        raise AssertionError(f"{safe_lines(finding.why)}\n\n{render(journals, finding.evidence)}")


def _conduct(journal: Journal, scenario: Scenario, patterns: Sequence[str], level: str) -> Finding:
    """The client broke no rule that matches the patterns; without patterns, no rule of this level or a stricter one."""
    asked = "a client that behaves well"
    own, levels = judging.of_protocol(journal.protocol), up_to(level)
    chosen = judging.select(patterns, own) if patterns else [rule for rule in own if rule.level in levels]
    run = Run([journal], [scenario])
    if not run.exchanges:
        return expectations.unmet(asked, "nobody connected")
    if not own and not expected.keys(scenario):
        seen = f"nothing can judge it: there are no rules of conduct for {journal.protocol} yet, and {scenario.name} expects nothing"
        return expectations.unmet(asked, seen)
    bad = verdict.offenders(judging.judge(run, chosen))
    if not bad:
        return expectations.HELD
    said = "\n\n".join(verdict.in_words(one) for one in bad)
    counted = "a rule of conduct was broken" if len(bad) == 1 else f"{len(bad)} rules of conduct were broken"
    return expectations.unmet(asked, f"{counted}\n\n{said}", [x for one in bad for x in one.finding.evidence])


def _check_other(fake: Assertions, other: object) -> None:
    """Raise TypeError or ValueError unless `other` is another fake that shares this one's clock."""
    if not isinstance(other, Assertions):
        raise TypeError(f"other is {other!r}; allowed: the fake that the client should turn to")
    if other is fake:
        raise ValueError("other is this very fake; allowed: another one, that the client should turn to")
    if other.journal.clock is not fake.journal.clock:
        raise ValueError(
            f"{fake.journal.server} and {other.journal.server} have clocks of their own, so nobody can tell which the "
            "client came to first: make both with the same clock=, or with the fixture fake_servers"
        )
