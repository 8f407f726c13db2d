"""What a scenario expects of a well-behaved client (its `[expect]`), judged like the rules of conduct."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from notnow import protocols
from notnow.conduct import expectations
from notnow.conduct.finding import NOT_EXERCISED, Finding
from notnow.conduct.judging import Verdict
from notnow.conduct.reading import attempts
from notnow.conduct.rules.rule import Rule
from notnow.journal import Connection, Exchange, Journal
from notnow.units import show, times

if TYPE_CHECKING:
    from notnow.language.expect import Retried
    from notnow.language.scenario import Scenario


class Judged(Protocol):
    """A fake, as far as its clients are judged by it; one that holds files has `files` besides."""

    @property
    def journal(self) -> Journal: ...
    @property
    def scenario(self) -> Scenario: ...


class _Merged(Struct, frozen=True):
    """Several fakes as one that has seen what all of them have."""

    journal: Journal
    scenario: Scenario


def judge(fakes: Sequence[Judged]) -> list[Verdict]:
    """A verdict for each thing that the scenarios of these fakes, which share a clock, expect.

    What a client sent to one of several servers counts for all of their protocol: a client that falls back has
    delivered.
    """
    found: list[Verdict] = []
    for protocol in dict.fromkeys(fake.journal.protocol for fake in fakes):
        found += _of_protocol([fake for fake in fakes if fake.journal.protocol == protocol])
    return found


def findings(fake: Judged) -> Iterator[Finding]:
    """The finding for each key of one fake's `[expect]`, also where no client came."""
    exchanges = fake.journal.since_play()
    return (_KEYS[key].judge(fake, exchanges, getattr(fake.scenario.expect, key)) for key in keys(fake.scenario))


def _of_protocol(fakes: Sequence[Judged]) -> list[Verdict]:
    found: list[Verdict] = []
    for key, row in _KEYS.items():
        asking = [fake for fake in fakes if key in keys(fake.scenario)]
        if asking and row.across_servers and len(fakes) > 1:
            asking = [_Merged(Journal.merged([fake.journal for fake in fakes]), asking[0].scenario)]
        found += [_verdict(fake.scenario, key, _finding(fake, key, fakes)) for fake in asking]
    return found


def _verdict(scenario: Scenario, key: str, finding: Finding) -> Verdict:
    rule = Rule(
        id=f"expect.{key.replace('_', '-')}",
        title=in_words(scenario, key),
        level="must",
        source=f"[expect] of {scenario.name}",
        why="",
        proof="",
        example="",
        judge=lambda _run: finding,
    )
    return Verdict(rule, finding)


def _finding(fake: Judged, key: str, fakes: Sequence[Judged]) -> Finding:
    row, exchanges = _KEYS[key], fake.journal.since_play()
    if not exchanges or (row.of_this_server and _went_elsewhere(fake, fakes)):
        return NOT_EXERCISED
    return row.judge(fake, exchanges, getattr(fake.scenario.expect, key))


def _went_elsewhere(fake: Judged, fakes: Sequence[Judged]) -> bool:
    """The client did not come back to this server, which had refused it, but turned to another."""
    exchanges = fake.journal.since_play()
    refused = attempts.refusals(exchanges)
    if not refused or attempts.retries(exchanges):
        return False
    others = [other.journal for other in fakes if other.journal is not fake.journal]
    return any(c.index > refused[0].index for journal in others for c in journal.connections)


# ---- the keys ------------------------------------------------------------------------------------


def keys(scenario: Scenario) -> list[str]:
    """The keys of `[expect]` by which a scenario asks for something."""
    return [key for key in _KEYS if getattr(scenario.expect, key) not in (None, False)]


def in_words(scenario: Scenario, key: str) -> str:
    """What a well-behaved client does, for a key by which the scenario asks for it."""
    return _KEYS[key].words(scenario.protocol, getattr(scenario.expect, key))


class _Key(Struct, frozen=True):
    """A key of `[expect]`.

    `words` takes the protocol and the value of the key, and says what a well-behaved client does. `judge` takes the
    fake, its exchanges since the last play, and that value. `across_servers`: all servers of the protocol are judged
    as one. `of_this_server`: not asked of a client that turned to another server instead of coming back.
    """

    words: Callable[[str, Any], str]
    judge: Callable[[Any, Sequence[Exchange], Any], Finding]
    across_servers: bool = False
    of_this_server: bool = False


def _retried(_protocol: str, wanted: Retried) -> str:
    words = [f"It tries again{', at least ' + times(wanted.times) if wanted.times is not None else ''}"]
    if wanted.first_delay is not None:
        words.append(f"after a first wait of at least {show(wanted.first_delay)}")
    if wanted.within is not None:
        words.append(f"within {show(wanted.within)} of the first refusal")
    if wanted.backoff is not None:
        words.append(f"with {wanted.backoff} back-off")
    return ", ".join(words) + "."


def _pieces(fake: Any) -> dict[str, int]:
    return {name: fake.files.size(name) for name in fake.files.partial}


_KEYS: Mapping[str, _Key] = {
    "delivered": _Key(
        lambda protocol, want: protocols.get(protocol).words.delivered.format(times=times(want.times)),
        lambda fake, found, want: expectations.delivered(fake.journal.protocol, found, want.times),
        across_servers=True,
    ),
    "no_duplicates": _Key(
        lambda protocol, _: protocols.get(protocol).words.no_duplicates,
        lambda fake, found, _want: expectations.no_duplicates(fake.journal.protocol, found),
        across_servers=True,
    ),
    "no_partial_files": _Key(
        lambda *_: "It leaves no partial file behind: it resends or resumes each interrupted upload.",
        lambda fake, _found, _want: expectations.no_partial_files(fake.journal.exchanges, _pieces(fake)),
    ),
    "retried": _Key(
        _retried,
        lambda _, found, want: expectations.retried(found, want.times, want.within, want.first_delay, want.backoff),
        of_this_server=True,
    ),
    "new_connection_after": _Key(
        lambda _, code: f"After a {code} it tries again on another connection.",
        lambda _, found, code: expectations.new_connection_after(found, code),
    ),
    "sni_matches_authority": _Key(
        lambda *_: "It sends requests for a host only on a connection that was made for that host.",
        lambda _, found, _want: expectations.sni_matches_authority(found),
    ),
    "not_coalesced": _Key(
        lambda *_: "It uses a separate connection for each host.",
        lambda _, found, _want: expectations.not_coalesced(found),
    ),
    "retry_after_honoured": _Key(
        lambda *_: "It waits as long as Retry-After says before it tries again.",
        lambda _, found, _want: expectations.retry_after_honoured(found),
    ),
    "body_replayed": _Key(
        lambda *_: "It sends the whole body again with each repeated request.",
        lambda _, found, _want: expectations.body_replayed(found),
    ),
    "never_exceeded": _Key(
        lambda _, want: f"It never has more than {want.connections} connections at a time.",
        lambda _, found, want: expectations.never_exceeded(_connections(found), want.connections),
    ),
    "gave_up": _Key(
        lambda _, after: f"It tries for {show(after)} after its first refusal, and then gives up.",
        lambda _, found, after: expectations.gave_up(found, after),
        of_this_server=True,
    ),
}


def _connections(exchanges: Sequence[Exchange]) -> list[Connection]:
    return list(dict.fromkeys(x.connection for x in exchanges))
