"""A journal becomes a scenario: what its rules did is done again, at the same events and times.

A rule that asked for nothing but the event stands in the new scenario as it stood in the old one. Where a rule fired because of
what it had counted, or by chance, the new one names the events: the third RCPT, the first five connections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from notnow import protocols
from notnow.chaos.replay import telling
from notnow.chaos.replay.entries import Entries, Line
from notnow.chaos.replay.places import Places
from notnow.chaos.replay.played import Played, counts, moments
from notnow.chaos.replay.recording import Part, Recording, ReplayError, Table, by_ordinal
from notnow.chaos.replay.stretches import KICKED, Stretch, cut
from notnow.chaos.replay.writing import duration
from notnow.errors import unknown
from notnow.units import plural

_OURS = ("stopped", KICKED)
_UNASKED = ("enter", "idle")


def recording(found: Entries, name: str, read: int) -> Recording:
    """The run of a journal as a scenario; `name` is the file, `read` its lines. Raises ReplayError."""
    stretches = cut(found.found)
    last = next((one.scenario for one in reversed(stretches) if one.scenario is not None), None)
    protocol = _protocol(found, name)
    pairs = zip([None, *stretches], stretches, strict=False)
    parts = [_part(one, before, protocol) for before, one in pairs if one.found or one.kicks or before is not None]
    fired = sum(_fired(x) for one in stretches for x in [*one.found, *one.kicks])
    if not fired:
        raise ReplayError(f"{name}: no rule has fired in this run, so there is nothing to repeat")
    if parts[-1].lasts is not None or parts[-1].until:
        parts.append(Part("afterwards"))
    where = f" at {found.server}" if found.server else ""
    return Recording(
        protocol,
        f"What happened{where} in a recorded run: {plural(fired, 'fault')}.",
        _tally(found, stretches, fired, read),
        parts,
        last.tables if last is not None else _tables(found, protocol),
        [f"Made by notnow replay from {name}: {_played(found)}.", *_doubts(found, last)],
        [f"notnow replay {name}"],
    )


def _fired(x: Line) -> bool:
    return x.fault is not None and x.fault != "stopped"


def _tally(found: Entries, stretches: Sequence[Stretch], fired: int, read: int) -> str:
    exchanges = sum(len(one.found) + len(one.kicks) for one in stretches)
    others = f"; left out {plural(found.others, 'line')} of other programs" if found.others else ""
    return f"read {plural(read, 'line')}: {plural(fired, 'fault')} in {plural(exchanges, 'exchange')}{others}"


def _played(found: Entries) -> str:
    return (
        " then ".join(dict.fromkeys(one.text for one in found.found if one.event == "play"))
        or "no scenario is named there"
    )


def _doubts(found: Entries, last: Played | None) -> Iterator[str]:
    if found.dropped:
        yield f"The journal lacks its first {plural(found.dropped, 'exchange')}, so the numbers of events count from there."
    if last is None:
        yield "The journal does not have the scenario: delays, the pauses of a drip, and bodies of answers could not be told."


# ---- which protocol --------------------------------------------------------------------------------


def _protocol(found: Entries, name: str) -> str:
    told = [one.protocol for one in found.found if one.protocol] + list(found.listening.values())
    for protocol in told:
        if protocol in protocols.NAMES:
            return protocol
    for protocol in protocols.NAMES:
        others = {moment for other in protocols.every() if other.name != protocol for moment in other.moments}
        own = protocols.get(protocol).moments.keys() - others
        if any(x.moment in own for x in found.found) or _names(found, protocol):
            return protocol
    raise ReplayError(f"{name}: {unknown('protocol', told[0], protocols.NAMES)}" if told else _UNCLEAR.format(name))


_UNCLEAR = (
    "{}: the journal does not tell which protocol it is of; allowed: one with its `play` entry, or with a command in it"
)


def _names(found: Entries, protocol: str) -> bool:
    """True if the name of the server or of a scenario is that of the protocol."""
    texts = [found.server, *(one.text for one in found.found if one.event == "play")]
    return any(text == protocol or text.startswith(f"{protocol}/") for text in texts)


def _tables(found: Entries, protocol: str) -> Table:
    """[server] and [expect] of a run whose scenario is not known."""
    tables: Table = {"expect": {"delivered": {"times": 1}}}
    if any(isinstance(one.tls, dict) and one.tls for one in found.found):
        upgraded = any(x.moment == "starttls" or (protocol == "ftp" and x.moment == "auth") for x in found.found)
        tables = {"server": {"tls": "starttls" if upgraded else "implicit"}} | tables
    return tables


# ---- rules -----------------------------------------------------------------------------------------


def _part(one: Stretch, before: Stretch | None, protocol: str) -> Part:
    part = one.part()
    part.rules += [_unasked("enter", telling.of_exchange(x, protocol), {}) for x in one.kicks[:1]]
    part.rules += _rules(one, before, protocol)
    return part


def _rules(one: Stretch, before: Stretch | None, protocol: str) -> list[Table]:
    """The rules of a stretch: first those for single events, then those that fire whenever their event comes."""
    places = Places(protocol, _tls(one), before.ended_by if before is not None else None)
    numbered: dict[str, dict[int, Table | None]] = {}
    standing: dict[str, Table] = {}
    for x in one.found:
        at = places.of(x)
        if not x.rule or x.fault in _OURS or x.rule.startswith("server."):
            continue
        rule = one.scenario.rule(x.rule) if one.scenario is not None else None
        if rule is not None and (not counts(rule) or _is_unasked(rule)):
            standing.setdefault(x.rule, rule)
        elif x.moment in _UNASKED:
            standing[x.rule] = _again(x, rule, standing.get(x.rule), one, protocol)
        elif (on := _moment(x, rule, at)) is not None:
            numbered.setdefault(on, {})[at[on]] = telling.of_rule(rule, x) if rule else telling.of_exchange(x, protocol)
    always = one.scenario is None and one.ends is not None
    single = _always_or_by_number(numbered, one, protocol) if always else _by_number(numbered, bool(standing))
    return [*single, *(standing[path] for path in sorted(standing, key=_place))]


def _is_unasked(rule: Table) -> bool:
    """True for a rule about silence, or the beginning of a phase, without chance: only it can count what was not answered."""
    return moments(rule) in (["idle"], ["enter"]) and "chance" not in rule


def _tls(one: Stretch) -> str:
    return str(one.scenario.tables.get("server", {}).get("tls", "none")) if one.scenario is not None else "none"


def _by_number(numbered: dict[str, dict[int, Table | None]], exceptions: bool) -> list[Table]:
    """Rules for single events. One without a fault is an exception, which matters only where another rule stands behind it."""
    kept = {on: {n: told for n, told in met.items() if told or exceptions} for on, met in numbered.items()}
    return [rule for on, met in kept.items() for rule in by_ordinal(on, met)]


def _always_or_by_number(numbered: dict[str, dict[int, Table | None]], one: Stretch, protocol: str) -> list[Table]:
    """The rules of a phase that ended by itself, of a scenario that is not known: what met every event, meets every event."""
    places, seen = Places(protocol, "none"), dict[str, int]()
    for x in one.found:
        seen |= places.of(x)
    rules: list[Table] = []
    for on, met in numbered.items():
        first = next(iter(met.values())) or {}
        always = len(met) == seen.get(on) and all(told == first for told in met.values())
        rules += [{"on": on, **first}] if always else by_ordinal(on, met)
    return rules


def _place(path: str) -> tuple[int, ...]:
    return tuple(int(part) for part in path.replace("]", "[").split("[") if part.isdecimal())


def _moment(x: Line, rule: Table | None, at: dict[str, int]) -> str | None:
    """The moment at which the rule for an exchange acts: that of the exchange, or one within it. None: no event is its own."""
    if rule is None:
        return x.moment if x.moment in at else next(iter(at), None)
    wanted = moments(rule)
    if x.moment in at and (x.moment in wanted or {"any", "transfer"}.intersection(wanted)):
        return x.moment
    return next((moment for moment in wanted if moment in at), None)


def _again(x: Line, rule: Table | None, before: Table | None, one: Stretch, protocol: str) -> Table:
    """A rule for what the fake did unasked: it does so as often as it did then."""
    times = (before or {}).get("times", 0) + 1
    if rule is not None:
        kept: dict[str, Any] = {key: rule[key] for key in ("where", "after", "since") if key in rule}
        return {**_unasked(x.moment, telling.of_rule(rule, x), kept), "times": times}
    kept = {"after": _silence(x, one)} if x.moment == "idle" else {}
    return {**_unasked(x.moment, telling.of_exchange(x, protocol), kept), "times": times}


def _unasked(on: str, does: Table, more: Table) -> Table:
    return {"on": on, **more, **does}


def _silence(x: Line, one: Stretch) -> str:
    """How long the client had been silent, as far as the journal tells it."""
    before: Iterable[float] = (y.at for y in one.found if y.connection == x.connection and y.index < x.index)
    return duration(x.at - max(before, default=one.begins))
