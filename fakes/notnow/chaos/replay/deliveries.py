"""The deliveries of a mail.log as a scenario: whoever was deferred is deferred again, as often and in the same words.

Commands that name a recipient or a sender are counted for each of them, because Postfix works on several messages at a time,
in an order that nobody can foretell. Connections are counted in the order of the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from notnow.chaos.replay.maillog import Cause, Delivery, MailLog
from notnow.chaos.replay.recording import Part, Recording, ReplayError, Table, by_ordinal
from notnow.units import plural

ORDER = ("connect", "ehlo", "starttls", "tls", "auth", "mail", "rcpt", "data", "body", "message")
_BY_NAME = {"mail": "sender", "rcpt": "recipient", "data": "recipient", "body": "recipient", "message": "recipient"}
_GLOB = re.compile(r"([*?[])")

Owners = tuple[str, ...]  # the addresses that an event is about
Event = tuple[Owners, Table | None]  # and the fault that it met


def recording(log: MailLog, name: str, read: int, *, in_order: bool = False) -> Recording:
    """The deliveries of a log as a scenario; `name` is the file, `read` its lines. Raises ReplayError.

    `in_order`: the n-th command meets what the n-th one met, whoever it names.
    """
    failed = [one for one in log.deliveries if any(cause for _, cause in one.outcomes)]
    causes = [cause for one in failed for _, cause in one.outcomes if cause is not None]
    tally = tell(log, read)
    if not causes:
        raise ReplayError(
            f"{name}: {tally}; a scenario can repeat only what a server has said, or done to a connection"
        )
    met = _events(log.deliveries)
    rules = [rule for moment in ORDER for rule in _rules(moment, met.get(moment, []), in_order)]
    relays = sorted({one.relay.partition("[")[0] for one in failed})
    times = [one.time for one in failed if one.time]
    return Recording(
        "smtp",
        f"What Postfix met in {plural(len(failed), 'delivery', 'deliveries')}: {_refusals(log)}.",
        tally,
        [Part("as logged", rules=rules)],
        {**_server(causes), "expect": {"delivered": {"times": 1}}},
        [
            f"Made by notnow replay from {name}: {_when(times)}by {', '.join(relays[:5])}{' and others' if relays[5:] else ''}."
        ],
        [f"notnow replay {name}"],
    )


def tell(log: MailLog, read: int) -> str:
    """What was read, in a sentence."""
    failed = sum(any(cause for _, cause in one.outcomes) for one in log.deliveries)
    parts = [f"read {plural(read, 'line')}: {_refusals(log)} in {plural(failed, 'delivery', 'deliveries')}"]
    parts += [f"{log.sent} sent"] if log.sent else []
    if log.unplayable:
        kinds = ", ".join(f"{kind} ({n})" for kind, n in log.unplayable.most_common(5))
        parts.append(f"{sum(log.unplayable.values())} cannot be played: {kinds}")
    parts += [f"left out {plural(log.others, 'line')} of other programs"] if log.others else []
    return "; ".join(parts)


def _refusals(log: MailLog) -> str:
    bounces = f" and {plural(log.bounces, 'refusal')} for good" if log.bounces else ""
    return plural(log.deferrals, "deferral") + bounces


def _when(times: Sequence[str]) -> str:
    if not times:
        return ""
    return f"{times[0]} to {times[-1]}, " if times[0] != times[-1] else f"{times[0]}, "


def _server(causes: Sequence[Cause]) -> Table:
    """How the server is set up: with TLS where TLS was what failed."""
    moments = {cause.moment for cause in causes}
    tables: Table = {"server": {"tls": "starttls"}} if moments & {"starttls", "tls"} else {}
    if any("certificate" in cause.fault for cause in causes):
        names = ["localhost", "127.0.0.1", "::1"]
        tables["certificate"] = {"right": {"names": names}, "untrusted": {"names": names, "untrusted": True}}
    return tables


# ---- events ----------------------------------------------------------------------------------------


def _events(deliveries: Sequence[Delivery]) -> Mapping[str, list[Event]]:
    """The events of each moment that the server has seen, in the order of the log."""
    found: dict[str, list[Event]] = {}
    for one in deliveries:
        for moment, owners, fault in _of_delivery(one):
            found.setdefault(moment, []).append((owners, fault))
    return found


def _of_delivery(one: Delivery) -> Iterator[tuple[str, Owners, Table | None]]:
    """What one delivery asked for, up to where it ended."""
    met = {cause.moment: cause for _, cause in reversed(one.outcomes) if cause is not None}
    for moment in ORDER[one.reused and ORDER.index("mail") :]:
        if moment == "rcpt":
            yield from _of_recipients(one)
            if not (left := _accepted(one)):
                return
            continue
        late = ORDER.index(moment) > ORDER.index("rcpt")
        owners = left if late else (one.sender or "",) if moment == "mail" else ()
        cause = met.get(moment)
        yield moment, owners, cause.fault if cause is not None else None
        if cause is not None:
            return


def _of_recipients(one: Delivery) -> Iterator[tuple[str, Owners, Table | None]]:
    """RCPT for each recipient; where one of them ended the connection, Postfix tells the others that it was lost."""
    there = [(to, cause) for to, cause in one.outcomes if cause is not None and cause.moment == "rcpt"]
    ending = [(to, cause) for to, cause in there if cause.closes]
    ending.sort(key=lambda pair: "reply" not in pair[1].fault)
    for to, cause in one.outcomes:
        if cause is None or cause.moment in ("data", "body", "message") or not cause.closes:
            yield "rcpt", (to,), cause.fault if cause is not None and cause.moment == "rcpt" else None
    for to, cause in ending[:1]:
        yield "rcpt", (to,), cause.fault


def _accepted(one: Delivery) -> Owners:
    """The recipients with which the delivery went on to DATA; none where the connection had ended."""
    if any(cause is not None and cause.moment == "rcpt" and cause.closes for _, cause in one.outcomes):
        return ()
    return tuple(to for to, cause in one.outcomes if cause is None or cause.moment != "rcpt")


# ---- rules -----------------------------------------------------------------------------------------


def _rules(moment: str, events: Sequence[Event], in_order: bool) -> list[Table]:
    if not any(fault for _, fault in events):
        return []
    named = _BY_NAME.get(moment)
    if in_order or named is None or not all(owners and owners[0] for owners, _ in events):
        return by_ordinal(moment, {n: fault for n, (_, fault) in enumerate(events, 1) if fault})
    if all(len(owners) == 1 for owners, _ in events) and (alike := _alike(events)) is not None:
        return by_ordinal(moment, alike, per=named)
    return _for_each(moment, named, events)


def _alike(events: Sequence[Event]) -> dict[int, Table | None] | None:
    """What everybody met at the first, the second … event of their own; None where they met different things."""
    met: dict[int, Table | None] = {}
    counts: dict[str, int] = {}
    for (owner, *_), fault in events:
        n = counts[owner] = counts.get(owner, 0) + 1
        if n in met and met[n] != fault:
            return None
        met[n] = fault
    return {n: fault for n, fault in met.items() if fault}


def _for_each(moment: str, named: str, events: Sequence[Event]) -> list[Table]:
    """Rules that name the address: the first one of an event stands for it."""
    found: dict[str, dict[int, Table | None]] = {}
    counts: dict[str, int] = {}
    for owners, fault in events:
        for owner in dict.fromkeys(owners):
            counts[owner] = counts.get(owner, 0) + 1
        if fault:
            found.setdefault(owners[0], {})[counts[owners[0]]] = fault
    return [
        rule
        for owner, met in found.items()
        for rule in by_ordinal(moment, met, where={named: _GLOB.sub(r"[\1]", owner)})
    ]
