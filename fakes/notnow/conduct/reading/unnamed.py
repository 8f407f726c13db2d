"""Whose mail a connection was to carry that an SMTP server refused before MAIL: the wire does not say, but the run may.

A client that has one letter in all of the run came for that one, unless it came back too soon to be the same, or on
several connections at a time. The connections of a client that never named any mail stand for as much of it as there
were connections side by side.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from notnow.conduct.reading.letters import Letter
from notnow.conduct.reading.transactions import Transaction
from notnow.journal import Journal

AT_ONCE = 1.0  # seconds: a client that comes back sooner has not waited


@dataclass(slots=True)
class Unnamed:
    """`letters` are those of the connections that belong to one for certain; `owners` are those that the others may have
    been for. `uncarried` are connections whose mail no later try can have carried.
    """

    letters: dict[Transaction, Letter] = field(default_factory=dict)
    owners: dict[Transaction, Sequence[Letter]] = field(default_factory=dict)
    uncarried: list[Transaction] = field(default_factory=list)


def attribute(transactions: Iterable[Transaction], known: Mapping[Transaction, Letter]) -> Unnamed:
    """The letters of the connections that named none; `known` are the letters of the others."""
    found = Unnamed()
    by_client: dict[str, list[Transaction]] = {}
    for one in transactions:
        by_client.setdefault(one.session.client, []).append(one)
    for own in by_client.values():
        if any(one.sender is None for one in own):
            own.sort(key=_began)
            letters = list(dict.fromkeys(known[one] for one in own if one in known))
            if letters:
                _share(own, letters, known, found)
            else:
                _invent(own, found)
    return found


def _began(one: Transaction) -> int:
    """The index at which it began: that of the connection, if it is the first on it."""
    session = one.session
    return session.connection.index if one is session.transactions[0] else one.first.index


def _began_at(one: Transaction) -> float:
    session = one.session
    return session.connection.opened_at if one is session.transactions[0] else one.first.at


def _alone(own: Sequence[Transaction]) -> dict[Transaction, bool]:
    """For each try of a client: True if it began a while after all others had ended, and none began soon after it."""
    follows = _follow(own)
    return {one: follows[i] and all(follows[i + 1 : i + 2]) for i, one in enumerate(own)}


def _follow(own: Sequence[Transaction]) -> list[bool]:
    """For each try of a client, in order: True if it began after all others had ended, and not soon after one at its server."""
    ended: dict[Journal, float] = {}
    latest, found = -1.0, list[bool]()
    for one in own:
        journal = one.connection.journal
        last = ended.get(journal)
        found.append(_began(one) > latest and (last is None or _began_at(one) - last >= AT_ONCE))
        index, at = one.settled
        ended[journal] = at if last is None else max(last, at)
        latest = max(latest, index)
    return found


def _invent(own: Sequence[Transaction], found: Unnamed) -> None:
    """A client that never named any mail had at least as much of it as it had connections side by side."""
    alone, letters = _alone(own), list[Letter]()
    for one in own:
        span = _began(one), one.ended_index
        if all(letter.overlaps(*span) for letter in letters):
            found.letters[one] = Letter(f"the mail behind #{one.connection.number}")
            letters.append(found.letters[one])
        elif len(letters) == 1 and alone[one]:
            found.letters[one] = letters[0]
        else:
            found.owners[one] = letters
            continue
        found.letters[one].carried(*span)


def _share(
    own: Sequence[Transaction], letters: list[Letter], known: Mapping[Transaction, Letter], found: Unnamed
) -> None:
    """A connection was for the only letter of its client, or for any of them."""
    alone = _alone(own)
    for one in own:
        if one.sender is not None:
            continue
        if len(letters) == 1 and alone[one] and letters[0].wanted(_began(one)):
            found.letters[one] = letters[0]
        else:
            found.owners[one] = letters
    found.uncarried += _uncarried(own, known, found)


def _uncarried(own: Sequence[Transaction], known: Mapping[Transaction, Letter], found: Unnamed) -> list[Transaction]:
    """The connections, of several that came together, that are more than the letters that were tried afterwards."""
    last = {known[one]: one for one in own if one in known}.values()
    times, indices = sorted(_began_at(one) for one in last), sorted(_began(one) for one in last)
    several = len({one.connection.journal for one in own}) > 1
    more: list[Transaction] = []
    for together in _together(own):
        unnamed = [one for one in together if one in found.owners]
        if unnamed:
            later = len(times) - bisect_left(times, max(one.settled[1] for one in together) + AT_ONCE)
            if several:  # another server may be tried at once (RFC 5321 §5.1)
                later = max(later, len(indices) - bisect_right(indices, unnamed[0].ended_index))
            more += unnamed[later:]
    return more


def _together(own: Sequence[Transaction]) -> Iterator[list[Transaction]]:
    """The tries of a client in groups between which it was silent for a while."""
    group: list[Transaction] = []
    for one, follows in zip(own, _follow(own), strict=True):
        if follows and group:
            yield group
            group = []
        group.append(one)
    if group:
        yield group
