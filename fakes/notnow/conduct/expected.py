"""What a scenario expects of a well-behaved client (its `[expect]`), judged like the rules of conduct."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from msgspec import Struct

from notnow import protocols
from notnow.conduct.expectations import comebacks, delivery, requests
from notnow.conduct.finding import NOT_EXERCISED, Finding, not_exercised
from notnow.conduct.judging import Verdict, settled
from notnow.conduct.reading import attempts
from notnow.conduct.reading.comebacks import comebacks as came_back
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Rule
from notnow.journal import Exchange, Journal
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


class Seen(Struct, frozen=True):
    """What one fake has seen, or several of one protocol together, and how many items the client was given, if known."""

    fakes: tuple[Judged, ...]
    run: Run
    count: int | None = None

    @property
    def scenario(self) -> Scenario:
        return self.fakes[0].scenario

    @property
    def exchanges(self) -> Sequence[Exchange]:
        return self.run.exchanges

    @property
    def pieces(self) -> dict[str, int]:
        """The partial files of the fakes, and their sizes."""
        trees = [cast("Any", fake).files for fake in self.fakes if hasattr(fake, "files")]
        return {name: size for tree in trees for name, size in delivery.pieces(tree).items()}


def judge(fakes: Sequence[Judged], run: Run, *, count: int | None = None, accepted: str = "") -> list[Verdict]:
    """A verdict for each thing that the scenarios of these fakes, which share a clock, expect.

    What a client sent to one of several servers counts for all of their protocol: a client that falls back has
    delivered. `count` and `accepted` as in `notnow.conduct.judging`.
    """
    found: list[Verdict] = []
    for protocol in dict.fromkeys(fake.journal.protocol for fake in fakes):
        same = tuple(fake for fake in fakes if fake.journal.protocol == protocol)
        found += _of_protocol(Seen(same, run.of(protocol), count))
    return [settled(one, run, accepted=accepted) for one in found]


def of_fake(fake: Judged, *, count: int | None = None, accepted: str = "") -> list[Verdict]:
    """A verdict for each key of one fake's `[expect]`, also where no client came."""
    run = Run([fake.journal], [fake.scenario], count=count)
    seen = Seen((fake,), run, count)
    entries = [(key, getattr(fake.scenario.expect, key)) for key in keys(fake.scenario)]
    found = [_verdict(fake.scenario, key, _KEYS[key].judge(seen, entry)) for key, entry in entries]
    return [settled(one, run, accepted=accepted) for one in found]


def _of_protocol(seen: Seen) -> list[Verdict]:
    found: list[Verdict] = []
    for key, row in _KEYS.items():
        asking = [fake for fake in seen.fakes if key in keys(fake.scenario)]
        if asking and row.across_servers:
            asked = [(asking[0].scenario, seen)]
        else:
            alone = seen.run if len(seen.fakes) == 1 else None
            asked = [
                (f.scenario, Seen((f,), alone or Run([f.journal], [f.scenario], count=seen.count), seen.count))
                for f in asking
            ]
        found += [_verdict(scenario, key, _finding(scenario, one, key, seen)) for scenario, one in asked]
    return found


def _verdict(scenario: Scenario, key: str, finding: Finding) -> Verdict:
    rule = Rule(
        id=f"expect.{key.replace('_', '-')}",
        title=in_words(scenario, key),
        level=getattr(scenario.expect, key).level,
        source=f"[expect] of {scenario.name}",
        why="",
        proof="",
        example="",
        judge=lambda _run: finding,
        gives_way=_KEYS[key].gives_way,
    )
    return Verdict(rule, finding)


def _finding(scenario: Scenario, seen: Seen, key: str, everywhere: Seen) -> Finding:
    row = _KEYS[key]
    if seen.run.distrusted:
        return not_exercised(seen.run.distrusted)
    if not seen.exchanges or (row.of_this_server and _went_elsewhere(seen, everywhere)):
        return NOT_EXERCISED
    return row.judge(seen, getattr(scenario.expect, key))


def _went_elsewhere(seen: Seen, everywhere: Seen) -> bool:
    """After this server had refused it, the client turned to another one and did not come back."""
    refused = attempts.refusals(seen.exchanges)
    if not refused or came_back(seen.run).bounds()[1]:
        return False
    others = [other.journal for other in everywhere.fakes if other not in seen.fakes]
    return any(c.index > refused[0].index for journal in others for c in journal.connections)


# ---- the keys ------------------------------------------------------------------------------------


def keys(scenario: Scenario) -> list[str]:
    """The keys of `[expect]` by which a scenario asks for something."""
    asked = {key: getattr(scenario.expect, key) for key in _KEYS}
    return [key for key, entry in asked.items() if entry is not None and getattr(entry, "asked", True)]


def in_words(scenario: Scenario, key: str) -> str:
    """What a well-behaved client does, for a key by which the scenario asks for it."""
    return _KEYS[key].words(scenario.protocol, getattr(scenario.expect, key))


class _Key(Struct, frozen=True):
    """A key of `[expect]`.

    `words` takes the protocol and the entry, and says what a well-behaved client does. `judge` takes what was seen, and
    the entry. `across_servers`: all servers of the protocol are judged as one. `of_this_server`: not asked of a client
    that turned to another server instead of coming back. `gives_way`: as in a rule.
    """

    words: Callable[[str, Any], str]
    judge: Callable[[Seen, Any], Finding]
    across_servers: bool = False
    of_this_server: bool = False
    gives_way: frozenset[str] = frozenset()


def _retried(_protocol: str, wanted: Retried) -> str:
    words = [f"It tries again{', at least ' + times(wanted.times) if wanted.times is not None else ''}"]
    if wanted.first_delay is not None:
        words.append(f"after a first wait of at least {show(wanted.first_delay)}")
    if wanted.within is not None:
        words.append(f"within {show(wanted.within)} of the first refusal")
    if wanted.backoff is not None:
        words.append(f"with {wanted.backoff} back-off")
    return ", ".join(words) + "."


# Results that say that not everything came through: whoever accepts one does not ask that all of it does.
_NOT_DELIVERED = frozenset({"reported", "refused", "lost", "unknown"})

_KEYS: Mapping[str, _Key] = {
    "delivered": _Key(
        lambda protocol, want: protocols.get(protocol).words.delivered.format(times=times(want.times)),
        lambda seen, want: delivery.delivered(seen.run, want.times, seen.count),
        across_servers=True,
        gives_way=_NOT_DELIVERED | {"duplicated"},
    ),
    "no_duplicates": _Key(
        lambda protocol, _: protocols.get(protocol).words.no_duplicates,
        lambda seen, _: delivery.no_duplicates(seen.run),
        across_servers=True,
        gives_way=frozenset({"duplicated"}),
    ),
    "no_partial_files": _Key(
        lambda *_: "It leaves no partial file behind: it resends or resumes each interrupted upload.",
        lambda seen, _: delivery.no_partial_files(seen.exchanges, seen.pieces),
        gives_way=_NOT_DELIVERED,
    ),
    "retried": _Key(
        _retried,
        lambda seen, want: comebacks.retried(
            seen.run, want.times, want.within, want.first_delay, want.backoff, seen.count
        ),
        of_this_server=True,
        gives_way=_NOT_DELIVERED,
    ),
    "new_connection_after": _Key(
        lambda _, want: f"After a {want.code} it tries again on another connection.",
        lambda seen, want: comebacks.new_connection_after(seen.run, want.code),
        gives_way=_NOT_DELIVERED,
    ),
    "sni_matches_authority": _Key(
        lambda *_: "It sends requests for a host only on a connection that was made for that host.",
        lambda seen, _: requests.sni_matches_authority(seen.exchanges),
    ),
    "not_coalesced": _Key(
        lambda *_: "It uses a separate connection for each host.",
        lambda seen, _: requests.not_coalesced(seen.exchanges),
    ),
    "retry_after_honoured": _Key(
        lambda *_: "It waits as long as Retry-After says before it tries again.",
        lambda seen, _: requests.retry_after_honoured(seen.run),
        gives_way=_NOT_DELIVERED,
    ),
    "body_replayed": _Key(
        lambda *_: "It sends the whole body again with each repeated request.",
        lambda seen, _: requests.body_replayed(seen.run),
        gives_way=_NOT_DELIVERED,
    ),
    "never_exceeded": _Key(
        lambda _, want: f"It never has more than {want.connections} connections at a time.",
        lambda seen, want: comebacks.never_exceeded(seen.run.connections, want.connections),
    ),
    "gave_up": _Key(
        lambda _, want: f"It tries for {show(want.after)} after its first refusal, and then gives up.",
        lambda seen, want: comebacks.gave_up(seen.run, want.after),
        of_this_server=True,
    ),
}
