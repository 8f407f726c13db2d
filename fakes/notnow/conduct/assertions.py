"""Assertions about what a client did. They read the journal, and show a picture of it when they fail.

The judge and the pictures are imported by the functions that need them: every fake has these assertions, and most tests
use none of the two.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from notnow.conduct import arguments, expectations
from notnow.conduct.expectations import comebacks, delivery, load
from notnow.conduct.expectations.comebacks import Bound
from notnow.conduct.finding import HELD, Finding, inconclusive
from notnow.conduct.reading.result import FAILURES, UNKNOWN, WORDS, Exit, Result, result
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.storm import Storm, storm
from notnow.journal import Journal
from notnow.terminal import safe_lines
from notnow.units import plural

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

SHAPES = ("constant", "linear", "exponential")


class Assertions:
    """The assertions of every fake."""

    journal: Journal
    _ended: Exit = UNKNOWN

    @property
    @abstractmethod
    def scenario(self) -> Scenario:
        """The scenario that is playing."""

    # ---- results and figures -----------------------------------------------------------------------

    @contextlib.contextmanager
    def client(self) -> Iterator[None]:
        """Note how the client in a `with` block ends: an exception reports a failure, like an exit code other than 0.

        The exception goes on, so a test that expects one says `with pytest.raises(SMTPException), fake_smtp.client():`.
        """
        try:
            yield
        except Exception as error:
            self._ended = Exit(1, type(error).__name__)
            raise
        if self._ended.good is not False:
            self._ended = Exit(0)

    @property
    def result(self) -> Result:
        """What became of the items that the client was to deliver or fetch since the last play.

        Only a run in `client()` shows whether the client reported a failure; otherwise the result of a failure is "unknown".
        """
        return result(Run([self.journal], [self.scenario]).ledger, self._ended)

    @property
    def storm(self) -> Storm:
        """The load that the client put on the server: tries an item, tries in a second, wasted tries, time to drain."""
        return storm(Run([self.journal], [self.scenario], whole=True))

    def assert_amplification(self, at_most: float) -> None:
        """The client made at most so many tries an item, on average."""
        __tracebackhide__ = True
        arguments.positive("at_most", at_most)
        require_of_whole(load.amplification(self.storm, at_most), self.journal)

    def assert_drained(self, within: float | str) -> None:
        """The last item came through within this time of the server's recovery, in seconds or as "5m".

        The server recovered with the phase that follows its last refusal, or else with that refusal.
        """
        __tracebackhide__ = True
        arguments.time("within", within)
        require_of_whole(load.drained(self.storm, within), self.journal)

    # ---- what came through -------------------------------------------------------------------------

    def assert_delivered(self, times: int = 1, count: int | None = None) -> None:
        """Each item that the client asked for came through exactly `times` times, unless it was refused for good.

        At least one must have come through. SMTP: an item is a message to one recipient; a message is known by its
        Message-ID, or by its content if it has none. FTP: a file in one direction; listings count only if the client
        asked for nothing else. HTTP: a request, which came through if it got a good answer (below 400) in the end, and
        if it is not idempotent (POST, PATCH), was carried out exactly `times` times.

        `count`: how many items the client was given. Without it, the assertion fails where the journal cannot tell
        whether all of them came through: a connection that was refused at the greeting may have been for any message.
        `times=0` is `assert_not_delivered()`.
        """
        __tracebackhide__ = True
        arguments.whole("times", times)
        if count is not None:
            arguments.whole("count", count)
        run = Run([self.journal], whole=True, count=count)
        require_of_whole(
            delivery.not_delivered(run) if times == 0 else delivery.delivered(run, times, count), self.journal
        )

    def assert_not_delivered(self) -> None:
        """Nothing came through: no message was stored, no file was transferred whole, no request got a good answer.

        It also passes if no client connected: use `wait_for` to make sure that one did.
        """
        __tracebackhide__ = True
        require_of_whole(delivery.not_delivered(Run([self.journal], whole=True)), self.journal)

    def assert_no_duplicates(self) -> None:
        """No message was stored twice (RFC 5321 §4.2.5: with the 250 after the dot, the server takes responsibility).

        FTP: no file was uploaded whole twice with the same content. HTTP: no request that is not idempotent was
        carried out twice with the same body, whatever the server answered (RFC 9110 §9.2.2), unless it had an
        Idempotency-Key. A copy that the client could not avoid, because the server had kept the first and refused it, does
        no harm where the receiver can recognise it: by its Message-ID, or by the name of its file.
        """
        __tracebackhide__ = True
        require_of_whole(delivery.no_duplicates(Run([self.journal], whole=True)), self.journal)

    def assert_retried(
        self,
        times: int | tuple[int, int] | None = None,
        within: float | str | None = None,
        first_delay: Bound | None = None,
        backoff: str | None = None,
        *,
        count: int | None = None,
    ) -> None:
        """The client tried an item again after a refusal: a message, a file or a request, not the next of its items.

        `times`: how often, at least; or a range. `within`: it did so within this time after the first refusal
        (seconds, or "10m"). `first_delay`: how long it waited before it first tried again, at least; or a range.
        `backoff`: "constant", "linear" or "exponential", which takes at least three gaps. Jitter (±p %, equal, full,
        decorrelated or added) and a cap are part of each. It fails only where the gaps contradict the claim: with
        gaps that a client of this family has in fewer than 1 % of runs. Of several items it takes the gaps of the one
        that was tried most often.

        `count` as in `assert_delivered`. Without it, the assertion fails where the journal cannot tell a retry from
        the first try of another item, and says what would settle that.
        """
        __tracebackhide__ = True
        if count is not None:
            arguments.whole("count", count)
        if times is not None:
            arguments.often("times", times)
        if within is not None:
            arguments.time("within", within)
        if first_delay is not None:
            arguments.bound("first_delay", first_delay)
        if backoff is not None:
            arguments.one_of("backoff", backoff, SHAPES)
        run = Run([self.journal], whole=True, count=count)
        require(comebacks.retried(run, times, within, first_delay, backoff, count), self.journal)

    def assert_new_connection_after(self, code: int) -> None:
        """After a reply with this code the client tried again, and each time on another connection.

        A 421 is about the connection: in SMTP and FTP it ends the connection, and in HTTP it says that the request
        came on the wrong one (RFC 5321 §3.8, RFC 959 §4.2.1, RFC 9110 §15.5.20).
        """
        __tracebackhide__ = True
        arguments.whole("code", code, 400, 599, "the code of a refusal, 400 to 599, such as 421")
        require_of_whole(comebacks.new_connection_after(Run([self.journal], whole=True), code), self.journal)

    def assert_never_exceeded(self, connections: int) -> None:
        """The client had at most this many connections at a time; refused ones count too."""
        __tracebackhide__ = True
        arguments.whole("connections", connections)
        require_of_whole(comebacks.never_exceeded(self.journal.connections, connections), self.journal)

    def assert_conduct(
        self, *rules: str, level: str = "should", accept: str | Collection[str] = (), count: int | None = None
    ) -> None:
        """The client broke no rule of conduct of this level ("must", "should" or "advice") or a stricter one.

        `rules` are ids or patterns of the only rules to judge, whatever their level; `notnow conduct` lists all rules.
        Without `rules`, the client must also have done what the scenario expects, and its result must not be a failure.
        `accept` names results that are acceptable, such as "reported": then a client that said in `client()` what did not
        come through need not try again. `count` as in `assert_delivered`.

        The assertion fails if no client connected, and if nothing was tested: the scenario has faults, and none fired.
        Raises UnknownRuleError for an unknown id.
        """
        from notnow.conduct.rules.rule import LEVELS

        __tracebackhide__ = True
        for rule in rules:
            arguments.a_type("a rule", rule, "the id of a rule, or a pattern; `notnow conduct` lists them", str)
        arguments.one_of("level", level, LEVELS)
        accepted = [accept] if isinstance(accept, str) else list(accept)
        for one in accepted:
            arguments.one_of("accept", one, WORDS)
        if count is not None:
            arguments.whole("count", count)
        run = Run([self.journal], [self.scenario], count=count)
        found = result(run.ledger, self._ended, count)
        taken = found.word if found.word in accepted else ""
        require(_conduct(run, rules, level, found, taken), self.journal)
        if not rules:
            require(_expected(self, count, level, accepted=taken), self.journal)
            require(_tested(run), self.journal)

    def assert_fell_back_to(self, other: Assertions, within: float | str | None = None) -> None:
        """After a refusal by this server, the client connected to the other, which shares this one's clock.

        `within`: it did so within this time after the first refusal, in seconds or as "10s".
        """
        __tracebackhide__ = True
        _check_other(self, other)
        if within is not None:
            arguments.time("within", within)
        require(comebacks.fell_back(self.journal, other.journal, within), self.journal, other.journal)

    def assert_gave_up(self, after: float | str) -> None:
        """The client tried each refused item for this long after its first refusal, in seconds or as "5d", and gave up.

        RFC 5321 §4.5.4.1 says for how long a client should keep trying. A client that checks the age of its message
        after a failed try gives up with its first try past that time, so one such try is allowed.
        """
        __tracebackhide__ = True
        arguments.time("after", after)
        require_of_whole(comebacks.gave_up(Run([self.journal], whole=True), after), self.journal)

    def assert_expected(self, *, count: int | None = None) -> None:
        """The client did what the scenario expects of a well-behaved one, since the scenario was last played.

        The assertion fails if nothing was tested: the scenario has faults, and none fired. `count` as in
        `assert_delivered`.
        """
        __tracebackhide__ = True
        if count is not None:
            arguments.whole("count", count)
        require(_expected(self, count), self.journal)
        require(_tested(Run([self.journal], [self.scenario])), self.journal)


def require(finding: Finding, *journals: Journal) -> None:
    """Raise an AssertionError unless the finding was held. It says why, and shows these journals with the evidence
    marked.
    """
    __tracebackhide__ = True
    if finding.outcome != "held":
        from notnow.conduct.pictures.timeline import render

        settled = f"; {finding.settled_by} would settle it" if finding.settled_by else ""
        said = safe_lines(finding.why + settled)
        raise AssertionError(f"{said}\n\n{render(journals, finding.evidence)}")


def require_of_whole(finding: Finding, journal: Journal) -> None:
    """As `require`, for a claim about all of the run: it cannot hold if the journal has dropped a part of it."""
    __tracebackhide__ = True
    if finding.outcome == "held" and journal.dropped:
        why = f"the journal dropped {plural(journal.dropped, 'exchange')}, so it does not show the whole run"
        finding = inconclusive(why, "a larger journal_limit, or a shorter run")
    require(finding, journal)


def _tested(run: Run) -> Finding:
    """The run has tested the client: a fault fired, or the scenario has none."""
    if not run.untested:
        return HELD
    return expectations.unmet("a run that tests the client", f"nothing was tested: {run.untested}")


def _expected(fake: Assertions, count: int | None, level: str = "should", *, accepted: str = "") -> Finding:
    """The client did what the scenario expects at this level; `accepted` as in `notnow.conduct.judging`."""
    from notnow.conduct import expected
    from notnow.conduct.rules.rule import up_to

    verdicts = expected.of_fake(fake, count=count, accepted=accepted)
    asked = [one for one in verdicts if one.rule.level in up_to(level)]
    return expectations.first_unmet(one.finding for one in asked if one.outcome in ("broken", "inconclusive"))


def _conduct(run: Run, patterns: Sequence[str], level: str, found: Result, accepted: str) -> Finding:
    """The client broke no rule that matches the patterns; without patterns, no rule of this level or a stricter one."""
    from notnow.conduct import expected, judging
    from notnow.conduct.pictures import verdict
    from notnow.conduct.rules.rule import up_to

    journal, scenario = run.journals[0], run.scenarios[0]
    asked = "a client that behaves well"
    own, levels = judging.of_protocol(journal.protocol), up_to(level)
    chosen = judging.select(patterns, own) if patterns else [rule for rule in own if rule.level in levels]
    if not run.exchanges:
        return expectations.unmet(asked, "nobody connected")
    if not own and not expected.keys(scenario):
        seen = f"nothing can judge it: there are no rules of conduct for {journal.protocol} yet, and {scenario.name} expects nothing"
        return expectations.unmet(asked, seen)
    bad = verdict.offenders(judging.judge(run, chosen, accepted=accepted))
    if bad:
        said = "\n\n".join(verdict.in_words(one) for one in bad)
        counted = "a rule of conduct was broken" if len(bad) == 1 else f"{len(bad)} rules of conduct were broken"
        return expectations.unmet(asked, f"{counted}\n\n{said}", [x for one in bad for x in one.finding.evidence])
    if not patterns and found.word in FAILURES and found.word != accepted:
        return expectations.unmet(asked, found.sentence, [item.tries[-1].by for item in found.items])
    return HELD


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
