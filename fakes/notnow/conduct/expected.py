"""What a scenario expects of a well-behaved client (its `[expect]`), judged like the rules of conduct."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from notnow.conduct.assertions import Assertions
from notnow.conduct.finding import NOT_EXERCISED, Finding, held
from notnow.conduct.judging import Verdict
from notnow.conduct.reading import attempts
from notnow.conduct.rules.rule import Rule
from notnow.journal import Journal
from notnow.language.grammar import Expect
from notnow.units import show, times

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

PROTOCOL = "expect"  # the first part of the ids of these rules
COMES_BACK = ("retried", "gave_up")  # of no meaning where the client turned to another server instead
TOGETHER = ("delivered", "no_duplicates")  # wherever it came through, of the servers that a client could choose from


def judge(fakes: Sequence[Assertions]) -> list[Verdict]:
    """A verdict for each thing that the scenarios of these fakes, which share a clock, expect.

    What one of several servers was sent counts for all of their protocol: a client that falls back has delivered.
    """
    found: list[Verdict] = []
    for protocol in dict.fromkeys(fake.journal.protocol for fake in fakes):
        found += _of_protocol([fake for fake in fakes if fake.journal.protocol == protocol])
    return found


def _of_protocol(fakes: Sequence[Assertions]) -> list[Verdict]:
    found: list[Verdict] = []
    for key in _WORDS:
        asking = [fake for fake in fakes if key in keys(fake.scenario)]
        if key in TOGETHER and len(fakes) > 1:
            asking = [_together(asking[0], fakes)] if asking else []
        found += [Verdict(_rule(fake, key), _finding(fake, key, fakes)) for fake in asking]
    return found


def _together(fake: Assertions, fakes: Sequence[Assertions]) -> Assertions:
    """A fake that has seen what all of them have."""
    one = copy.copy(fake)
    one.journal = Journal.merged([each.journal for each in fakes])
    return one


def _rule(fake: Assertions, key: str) -> Rule:
    """What is expected, as a rule: broken as soon as it does not hold, whatever the reason."""
    return Rule(
        id=f"{PROTOCOL}.{key.replace('_', '-')}",
        title=in_words(fake.scenario, key),
        level="must",
        source=f"[expect] of {fake.scenario.name}",
        why="",
        observed="",
        example="",
        judge=lambda _run: NOT_EXERCISED,
    )


def _finding(fake: Assertions, key: str, fakes: Sequence[Assertions]) -> Finding:
    if not fake.journal.since_play() or (key in COMES_BACK and _went_elsewhere(fake, fakes)):
        return NOT_EXERCISED
    expect = fake.scenario.expect
    others = {other: None for other in Expect.model_fields if other != key}
    one = copy.copy(fake)
    one.scenario = replace(fake.scenario, expect=expect.model_copy(update=others))
    try:
        one.assert_expected()
    except AssertionError as error:
        return Finding("broken", str(error).partition("\n\n")[0], getattr(error, "marked", ()))
    return held()


def _went_elsewhere(fake: Assertions, fakes: Sequence[Assertions]) -> bool:
    """The client did not come back to this server, which had refused it, but turned to another."""
    exchanges = fake.journal.since_play()
    refused = attempts.refusals(exchanges)
    if not refused or attempts.retries(exchanges):
        return False
    others = [other.journal for other in fakes if other.journal is not fake.journal]
    return any(c.index > refused[0].index for journal in others for c in journal.connections)


# ---- in words ------------------------------------------------------------------------------------


def keys(scenario: Scenario) -> list[str]:
    """The keys of `[expect]` by which a scenario asks for something."""
    return [key for key in _WORDS if getattr(scenario.expect, key) not in (None, False)]


def in_words(scenario: Scenario, key: str) -> str:
    """What a well-behaved client does, for a key by which the scenario asks for it."""
    return _WORDS[key](scenario.protocol, getattr(scenario.expect, key))


def _retried(_protocol: str, wanted: Any) -> str:
    want = wanted.model_dump(exclude_none=True)
    words = [f"It tries again{', at least ' + times(want['times']) if 'times' in want else ''}"]
    if "first_delay" in want:
        words.append(f"after a first wait of at least {show(want['first_delay'])}")
    if "within" in want:
        words.append(f"within {show(want['within'])} of the first refusal")
    if "backoff" in want:
        words.append(f"with a back-off that is {want['backoff']}")
    return ", ".join(words) + "."


_DELIVERED = {
    "smtp": "It gets every message through, {times}: none lost, none doubled.",
    "ftp": "It gets every file through that it has begun with, whole, and {times}.",
    "http": "It gets a good answer to every request in the end; what is not safe to repeat is carried out {times}.",
}
_NO_DUPLICATES = {
    "smtp": "It sends no message again that the server has taken.",
    "ftp": "It sends no file again that the server has taken.",
    "http": "It repeats no request that is not safe to repeat and that the server has carried out.",
}
_WORDS: Mapping[str, Callable[[str, Any], str]] = {
    "delivered": lambda protocol, want: _DELIVERED[protocol].format(times=times(want.times)),
    "no_duplicates": lambda protocol, _: _NO_DUPLICATES[protocol],
    "no_partial_files": lambda *_: "It leaves no piece of a file behind: what was cut, it sends again or goes on with.",
    "retried": _retried,
    "new_connection_after": lambda _, code: f"After a {code} it comes back on another connection.",
    "sni_matches_authority": lambda *_: "It asks for a host only on a connection that was made for that host.",
    "not_coalesced": lambda *_: "It has a connection of its own for each host.",
    "retry_after_honoured": lambda *_: "It comes back when Retry-After has said, and no sooner.",
    "body_replayed": lambda *_: "What it sends again has its whole body again.",
    "never_exceeded": lambda _, want: f"It never has more than {want.connections} connections at a time.",
    "gave_up": lambda _, after: f"It tries for {show(after)} after its first refusal, and then gives up.",
}
