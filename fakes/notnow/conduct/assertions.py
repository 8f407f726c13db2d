"""Assertions about what a client did. They read the journal, and fail with a picture of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NoReturn

from notnow.conduct import arguments
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading import attempts, backoff
from notnow.conduct.reading.attempts import TOLERANCE
from notnow.journal import Connection, Exchange, Journal
from notnow.terminal import safe_lines
from notnow.units import seconds, show
from notnow.units import times as _often

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

Bound = float | str | tuple[float | str, float | str]
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
        if times == 0:
            _not_delivered(self.journal, self.journal.exchanges)
        else:
            _delivered(self.journal, self.journal.exchanges, times)

    def assert_not_delivered(self) -> None:
        """Nothing came through: no message was stored, no file was transferred whole, no request got a good answer.

        It holds, too, where no client came: with `wait_for` a test makes sure that one did.
        """
        __tracebackhide__ = True
        _not_delivered(self.journal, self.journal.exchanges)

    def assert_no_duplicates(self) -> None:
        """No message was stored twice (RFC 5321 §4.2.5: a 250 after the dot moves the responsibility).

        For FTP: no file was uploaded whole twice with the same content. For HTTP: no request that is not idempotent
        was carried out twice with the same content, whatever the client was answered (RFC 9110 §9.2.2).
        """
        __tracebackhide__ = True
        _no_duplicates(self.journal, self.journal.exchanges)

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
        _retried(self.journal, self.journal.exchanges, times, within, first_delay, backoff)

    def assert_new_connection_after(self, code: int) -> None:
        """After a reply with this code the client came back, and each time on another connection.

        A 421 is about the connection: SMTP's and FTP's ends it, and HTTP's says that it is the wrong one for what
        was asked (RFC 5321 §3.8, RFC 959 §4.2.1, RFC 9110 §15.5.20).
        """
        __tracebackhide__ = True
        arguments.whole("code", code, 400, 599, "the code of a refusal, 400 to 599, such as 421")
        _new_connection_after(self.journal, self.journal.exchanges, code)

    def assert_never_exceeded(self, connections: int) -> None:
        """At most so many connections at a time; those that were refused count too."""
        __tracebackhide__ = True
        arguments.whole("connections", connections)
        _never_exceeded(self.journal, self.journal.connections, connections)

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
        _conduct(self, rules, level)

    def assert_fell_back_to(self, other: Assertions, within: float | str | None = None) -> None:
        """After this server had refused it, the client turned to the other, which shares this one's clock.

        `within`: so soon after the first refusal, in seconds or as "10s".
        """
        __tracebackhide__ = True
        _check_other(self, other)
        if within is not None:
            arguments.time("within", within)
        _fell_back(self.journal, other.journal, within)

    def assert_gave_up(self, after: float | str) -> None:
        """The client tried until so long after its first refusal, in seconds or as "5d", and then gave up.

        A client that looks at the age of what it has after a try that failed gives up with the first try past that
        time, so one such try is allowed; RFC 5321 §4.5.4.1 speaks of the time that one keeps trying for.
        """
        __tracebackhide__ = True
        arguments.time("after", after)
        _gave_up(self.journal, self.journal.exchanges, after)

    def assert_expected(self) -> None:
        """What the scenario expects of a well-behaved client, since it was last played."""
        __tracebackhide__ = True
        expect, exchanges = self.scenario.expect, self.journal.since_play()
        if expect.delivered is not None:
            _delivered(self.journal, exchanges, expect.delivered.times)
        if expect.no_duplicates:
            _no_duplicates(self.journal, exchanges)
        if expect.retried is not None:
            want = expect.retried
            _retried(self.journal, exchanges, want.times, want.within, want.first_delay, want.backoff)
        if expect.new_connection_after is not None:
            _new_connection_after(self.journal, exchanges, expect.new_connection_after)
        if expect.never_exceeded is not None:
            since = {id(x.connection): x.connection for x in exchanges}
            _never_exceeded(self.journal, since.values(), expect.never_exceeded.connections)
        if expect.gave_up is not None:
            _gave_up(self.journal, exchanges, expect.gave_up)


def fail(
    journal: Journal,
    expected: str,
    seen: str,
    marked: Collection[Exchange | Connection] = (),
    among: Sequence[Journal] = (),
) -> NoReturn:
    """Raise the AssertionError of an expectation that does not hold, with a picture of what happened; `among` are the
    journals that it shows where there are several. The error keeps what is `marked`, for who judges by it.
    """
    __tracebackhide__ = True
    said = safe_lines(f"expected {expected}, but {seen}")
    error = AssertionError(f"{said}\n\n{render(among or [journal], marked)}")
    vars(error)["marked"] = tuple(marked)  # no class of ours: pytest would print its name
    raise error


def _delivered(journal: Journal, exchanges: Sequence[Exchange], times: int) -> None:
    __tracebackhide__ = True
    items = attempts.items(exchanges)
    what = _WHAT[journal.protocol]
    expected = f"every {what} to be delivered {_often(times)}"
    if not any(item.came for item in items):
        refused = attempts.refusals(exchanges)
        why = why_nothing(exchanges, refused)
        cut = items[0].cut[-1:] if items and not refused else []
        fail(journal, expected, f"none was delivered: {why}", refused[-1:] or cut)
    for item in items:
        if item.left_cut:
            fail(journal, expected, f"{item.name} was never completed: {_how_cut(item.cut[-1])}", item.cut[-1:])
        for same in item.copies:
            if len(same) != times:
                was = _was(same[0])
                fail(journal, expected, f"{item.name} {was} {_often(len(same))}", same)


def _not_delivered(journal: Journal, exchanges: Sequence[Exchange]) -> None:
    __tracebackhide__ = True
    came = [item for item in attempts.items(exchanges) if item.came]
    if came:
        others = f", and {len(came) - 1} more came through" if len(came) > 1 else ""
        marked = [x for item in came for x in item.came]
        fail(
            journal,
            f"no {_WHAT[journal.protocol]} to be delivered",
            f"{came[0].name} {_was(came[0].came[0])}{others}",
            marked,
        )


def _check_other(fake: Assertions, other: object) -> None:
    """Raises TypeError or ValueError for what a client cannot have fallen back to, or where no order can be told."""
    if not isinstance(other, Assertions):
        raise TypeError(f"other is {other!r}; allowed: the fake that the client should turn to")
    if other is fake:
        raise ValueError("other is this very fake; allowed: another one, that the client should turn to")
    if other.journal.clock is not fake.journal.clock:
        raise ValueError(
            f"{fake.journal.server} and {other.journal.server} have clocks of their own, so nobody can tell which the "
            "client came to first: make both with the same clock=, or with the fixture fake_servers"
        )


_WHAT = {"smtp": "message", "ftp": "file", "http": "request"}


_UNFINISHED = {"smtp": "message", "ftp": "transfer", "http": "request"}


def _was(exchange: Exchange) -> str:
    """What has become of something that came through."""
    facts = exchange.facts or {}
    if "method" in facts:
        return "was carried out"
    return "was stored" if facts.get("stored") else "was made"


def _how_cut(exchange: Exchange) -> str:
    facts = exchange.facts or {}
    if facts.get("bytes"):
        return f"it was cut after {facts['bytes']} bytes"
    return f"the client {_got(exchange)}" if exchange.refused else "it never began"


def _got(exchange: Exchange) -> str:
    """What the client was told, or got in place of an answer."""
    return f"was told {exchange.told!r}" if exchange.told in exchange.lines else f"got {exchange.told}"


def why_nothing(exchanges: Sequence[Exchange], refused: Sequence[Exchange]) -> str:
    if not exchanges:
        return "nobody connected"
    if not refused:
        return f"the client never came to the end of a {_UNFINISHED[exchanges[0].connection.journal.protocol]}"
    last, found = refused[-1], attempts.retries(exchanges)
    later = [x for x in exchanges if x.index > last.index and x.moment in attempts.ATTEMPTS]
    if found and not later:
        return f"the client came back {_often(len(found))} and was refused again: the last time it {_got(last)} at {last.moment}"
    if not later:
        return f"the client {_got(last)} at {last.moment} and did not come back"
    unfinished = _UNFINISHED[last.connection.journal.protocol]
    return f"the client came back and got no {unfinished} through; the last time that it was refused, it {_got(last)} at {last.moment}"


def _no_duplicates(journal: Journal, exchanges: Sequence[Exchange]) -> None:
    __tracebackhide__ = True
    for name, stored in attempts.copies(exchanges).items():
        if len(stored) > 1:
            seen = f"{name} {_was(stored[0])} {_often(len(stored))}"
            what = "carried out" if journal.protocol == "http" else "stored"
            fail(journal, f"nothing to be {what} twice", seen, stored)


def _retried(
    journal: Journal,
    exchanges: Sequence[Exchange],
    times: int | tuple[int, int] | None,
    within: float | str | None,
    first_delay: Bound | None,
    wanted: str | None,
) -> None:
    __tracebackhide__ = True
    refused = attempts.refusals(exchanges)
    if not refused:
        expected = "the client to try again after a refusal"
        fail(journal, expected, f"{_nothing_refused(exchanges)}: there was nothing to retry")
    found = attempts.retries(exchanges)
    low, high = times if isinstance(times, tuple) else (1 if times is None else times, None)
    if within is not None:
        start = refused[0].answered_at or refused[0].at
        soon = [r for r in found if r.attempt.at - start <= seconds(within) + TOLERANCE]
        if len(soon) < low:
            how = f"{_often(low)} within {show(seconds(within))}"
            fail(journal, f"the client to try again {how} of the first refusal", _how_often(soon), refused[:1])
    if not low <= len(found) <= (len(found) if high is None else high):
        how = f"at least {_often(low)}" if high is None else _often(low) if low == high else f"{low} to {high} times"
        fail(journal, f"the client to try again {how}", _how_often(found), [r.attempt for r in found] or refused[-1:])
    if first_delay is not None:
        _first_delay(journal, found, first_delay)
    if wanted is not None:
        _backoff(journal, found, wanted)


def _new_connection_after(journal: Journal, exchanges: Sequence[Exchange], code: int) -> None:
    __tracebackhide__ = True
    expected = f"the client to come back on another connection after a {code}"
    told = [x for x in attempts.refusals(exchanges) if code in x.codes]
    if not told:
        fail(journal, expected, f"it was never told {code}" if exchanges else "nobody connected")
    found = [r for r in attempts.retries(exchanges) if code in r.refusal.codes]
    if not found:
        fail(journal, expected, "it never tried again", told[-1:])
    for retry in found:
        if retry.attempt.connection is retry.refusal.connection:
            number = retry.attempt.connection.number
            fail(journal, expected, f"it tried again on the same one, #{number}", [retry.refusal, retry.attempt])


def _conduct(fake: Assertions, patterns: Sequence[str], level: str) -> None:
    __tracebackhide__ = True
    from notnow.conduct import judging
    from notnow.conduct.pictures import verdict
    from notnow.conduct.reading.run import Run
    from notnow.conduct.rules.rule import up_to

    levels, journal = up_to(level), fake.journal
    own = judging.of_protocol(journal.protocol)
    chosen = judging.select(patterns, own) if patterns else [rule for rule in own if rule.level in levels]
    run = Run([journal], [fake.scenario])
    if not run.exchanges:
        fail(journal, "a client that behaves well", "nobody connected")
    bad = verdict.offenders(judging.judge(run, chosen))
    if bad:
        said = "\n\n".join(verdict.in_words(one) for one in bad)
        marked = [evidence for one in bad for evidence in one.finding.evidence]
        counted = "a rule of conduct was broken" if len(bad) == 1 else f"{len(bad)} rules of conduct were broken"
        fail(journal, "a client that behaves well", f"{counted}\n\n{said}", marked)
    if not patterns:
        fake.assert_expected()


def _fell_back(journal: Journal, other: Journal, within: float | str | None) -> None:
    __tracebackhide__ = True
    expected = f"the client to fall back from {journal.server} to {other.server}"
    refused = attempts.refusals(journal.exchanges)
    journals = [journal, other]
    if not refused:
        seen = f"{journal.server} refused nothing" if journal.exchanges else f"nobody connected to {journal.server}"
        fail(journal, expected, seen, among=journals)
    first = refused[0]
    turned = next((c for c in other.connections if c.index > first.index), None)
    if turned is None:
        early = list(other.connections[:1])
        seen = f"it had been at {other.server} before, and not since" if early else f"it never came to {other.server}"
        fail(journal, expected, seen, [first, *early], among=journals)
    took = turned.opened_at - (first.answered_at if first.answered_at is not None else first.at)
    if within is not None and took > seconds(within) + TOLERANCE:
        seen = f"that took {show(took)}"
        fail(journal, f"{expected} within {show(seconds(within))}", seen, [first, turned], among=journals)


def _gave_up(journal: Journal, exchanges: Sequence[Exchange], after: float | str) -> None:
    __tracebackhide__ = True
    expected = f"the client to try for {show(seconds(after))} and then give up"
    refused = attempts.refusals(exchanges)
    if not refused:
        fail(journal, expected, _nothing_refused(exchanges))
    start = refused[0].answered_at if refused[0].answered_at is not None else refused[0].at
    tries = [r.attempt for r in attempts.retries(exchanges)]
    times, limit = [0.0, *(x.at - start for x in tries)], seconds(after)
    last = times[-1]
    # A sender that looks at the age after a failed try decides by the first that comes at the limit or past it.
    late = [x for at, x in zip(times, tries, strict=False) if at >= limit]
    if late:
        fail(journal, expected, f"it still tried after {show(last)}", late)
    # The last try may be a whole interval before the limit: as much as lay between the last two.
    gap = times[-1] - times[-2] if len(times) > 1 else 0.0
    if last + gap < limit - TOLERANCE:
        fail(journal, expected, f"the last that was seen of it was after {show(last)}", tries[-1:] or refused[-1:])


def _nothing_refused(exchanges: Sequence[Exchange]) -> str:
    return "nothing was refused" if exchanges else "nobody connected, so nothing was refused"


def _how_often(found: Sequence[attempts.Retry]) -> str:
    return f"it tried again {_often(len(found))}" if found else "it never tried again"


def _first_delay(journal: Journal, found: Sequence[attempts.Retry], bound: Bound) -> None:
    __tracebackhide__ = True
    low, high = (seconds(bound[0]), seconds(bound[1])) if isinstance(bound, tuple) else (seconds(bound), None)
    if not found:
        fail(journal, "a first delay", "it never tried again")
    delay = found[0].delay
    if delay < low - TOLERANCE or (high is not None and delay > high + TOLERANCE):
        what = f"at least {show(low)}" if high is None else f"{show(low)} to {show(high)}"
        fail(journal, f"a first delay of {what}", f"it was {show(delay)}", [found[0].refusal, found[0].attempt])


def _backoff(journal: Journal, found: Sequence[attempts.Retry], wanted: str) -> None:
    __tracebackhide__ = True
    gaps = [retry.delay for retry in found]
    seen = backoff.shape(gaps)
    listed = ", ".join(show(gap) for gap in gaps)
    expected = f"{'an' if wanted[0] in 'aeiou' else 'a'} {wanted} back-off"
    if seen is None:
        few = f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''} ({listed})" if gaps else "no gap"
        fail(journal, expected, f"{few} cannot tell: it takes {backoff.ENOUGH}")
    if seen != wanted:
        fail(journal, expected, f"the gaps were {listed}: {seen}", [retry.attempt for retry in found])


def _never_exceeded(journal: Journal, connections: Collection[Connection], most: int) -> None:
    __tracebackhide__ = True
    seen, culprit = attempts.peak(connections)
    if seen > most and culprit is not None:
        fail(journal, f"at most {most} connections at a time", f"there were {seen}", [culprit])
