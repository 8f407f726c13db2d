"""Assertions about what a client did. They read the journal, and fail with a picture of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from notnow.conduct import arguments, expectations, expected, judging
from notnow.conduct.expectations import Bound
from notnow.conduct.finding import Finding
from notnow.conduct.pictures import verdict
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import up_to
from notnow.journal import Journal
from notnow.terminal import safe_lines

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

SHAPES = ("constant", "linear", "exponential")
LEVELS = ("must", "should", "advice")


class Assertions:
    """What every fake can say of its clients."""

    journal: Journal
    scenario: Scenario

    def assert_delivered(self, times: int = 1) -> None:
        """Every message was stored exactly `times` times, and there was one.

        Copies are told by their Message-ID, or by their content where they have none. For FTP: every file whose
        transfer was begun came through whole, up or down, exactly `times` times. A listing is enough where the
        client asked for nothing else, and an upload of a file that has changed is another file. For HTTP: every
        request got a good answer (below 400) in the end, and each that is not idempotent (POST, PATCH) was carried
        out exactly `times` times. `times=0` is `assert_not_delivered()`.
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

        It holds, too, where no client came: with `wait_for` a test makes sure that one did.
        """
        __tracebackhide__ = True
        require(expectations.not_delivered(self.journal.protocol, self.journal.exchanges), self.journal)

    def assert_no_duplicates(self) -> None:
        """No message was stored twice (RFC 5321 §4.2.5: a 250 after the dot moves the responsibility).

        For FTP: no file was uploaded whole twice with the same content. For HTTP: no request that is not idempotent
        was carried out twice with the same content, whatever the client was answered (RFC 9110 §9.2.2).
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
        """The client came back after it was refused.

        `times`: at least so often, or a range. `within`: so soon after the first refusal (seconds, or
        "10m"). `first_delay`: it waited at least so long before it first came back, or a range. `backoff`:
        "constant", "linear" or "exponential"; that takes three gaps to tell.
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
        """After a reply with this code the client came back, and each time on another connection.

        A 421 is about the connection: SMTP's and FTP's ends it, and HTTP's says that it is the wrong one for what
        was asked (RFC 5321 §3.8, RFC 959 §4.2.1, RFC 9110 §15.5.20).
        """
        __tracebackhide__ = True
        arguments.whole("code", code, 400, 599, "the code of a refusal, 400 to 599, such as 421")
        require(expectations.new_connection_after(self.journal.exchanges, code), self.journal)

    def assert_never_exceeded(self, connections: int) -> None:
        """At most so many connections at a time; those that were refused count too."""
        __tracebackhide__ = True
        arguments.whole("connections", connections)
        require(expectations.never_exceeded(self.journal.connections, connections), self.journal)

    def assert_conduct(self, *rules: str, level: str = "must") -> None:
        """The client broke no rule of conduct of this level or a stricter one: "must", "should" or "advice".

        `rules` are ids or patterns of single ones, judged whatever their level; `notnow conduct` lists them. What the
        scenario expects is judged as well, where no single rules are named. A client that never came has not behaved
        well. Raises UnknownRuleError for an id that there is not.
        """
        __tracebackhide__ = True
        for rule in rules:
            arguments.a_type("a rule", rule, "the id of a rule, or a pattern; `notnow conduct` lists them", str)
        arguments.one_of("level", level, LEVELS)
        require(_conduct(self.journal, self.scenario, rules, level), self.journal)
        if not rules:
            self.assert_expected()

    def assert_fell_back_to(self, other: Assertions, within: float | str | None = None) -> None:
        """After this server had refused it, the client turned to the other, which shares this one's clock.

        `within`: so soon after the first refusal, in seconds or as "10s".
        """
        __tracebackhide__ = True
        _check_other(self, other)
        if within is not None:
            arguments.time("within", within)
        require(expectations.fell_back(self.journal, other.journal, within), self.journal, other.journal)

    def assert_gave_up(self, after: float | str) -> None:
        """The client tried until so long after its first refusal, in seconds or as "5d", and then gave up.

        A client that looks at the age of what it has after a try that failed gives up with the first try past that
        time, so one such try is allowed; RFC 5321 §4.5.4.1 speaks of the time that one keeps trying for.
        """
        __tracebackhide__ = True
        arguments.time("after", after)
        require(expectations.gave_up(self.journal.exchanges, after), self.journal)

    def assert_expected(self) -> None:
        """What the scenario expects of a well-behaved client, since it was last played."""
        __tracebackhide__ = True
        require(expectations.first_unmet(expected.findings(self)), self.journal)


def require(finding: Finding, *journals: Journal) -> None:
    """Raise an AssertionError unless the finding was held: what it says, and a picture of these journals in which its
    evidence is marked.
    """
    __tracebackhide__ = True
    if finding.outcome != "held":
        raise AssertionError(f"{safe_lines(finding.why)}\n\n{render(journals, finding.evidence)}")


def _conduct(journal: Journal, scenario: Scenario, patterns: Sequence[str], level: str) -> Finding:
    """The client broke none of the rules of these patterns, or of this level where there are none."""
    asked = "a client that behaves well"
    own, levels = judging.of_protocol(journal.protocol), up_to(level)
    chosen = judging.select(patterns, own) if patterns else [rule for rule in own if rule.level in levels]
    run = Run([journal], [scenario])
    if not run.exchanges:
        return expectations.unmet(asked, "nobody connected")
    bad = verdict.offenders(judging.judge(run, chosen))
    if not bad:
        return expectations.HELD
    said = "\n\n".join(verdict.in_words(one) for one in bad)
    counted = "a rule of conduct was broken" if len(bad) == 1 else f"{len(bad)} rules of conduct were broken"
    return expectations.unmet(asked, f"{counted}\n\n{said}", [x for one in bad for x in one.finding.evidence])


def _check_other(fake: Assertions, other: object) -> None:
    """Raises TypeError or ValueError unless `other` is another fake that shares this one's clock."""
    if not isinstance(other, Assertions):
        raise TypeError(f"other is {other!r}; allowed: the fake that the client should turn to")
    if other is fake:
        raise ValueError("other is this very fake; allowed: another one, that the client should turn to")
    if other.journal.clock is not fake.journal.clock:
        raise ValueError(
            f"{fake.journal.server} and {other.journal.server} have clocks of their own, so nobody can tell which the "
            "client came to first: make both with the same clock=, or with the fixture fake_servers"
        )
