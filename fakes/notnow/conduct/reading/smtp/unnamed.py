"""The mail behind a connection that an SMTP server refused before MAIL: the wire does not name it, but the run may show it.

If a client has one letter in the whole run, its unnamed connections were for that one, unless it came back too soon or
on several connections at a time. A client that never named any mail is taken to have had as many letters as it had
connections side by side.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from math import inf
from operator import and_, attrgetter

from notnow.conduct.reading.smtp.letter import Letter
from notnow.conduct.reading.smtp.transactions import Transaction
from notnow.journal import Journal

AT_ONCE = 1.0  # seconds: a client that comes back sooner has not waited


def attribute(transactions: Sequence[Transaction], *, only_one: bool = False) -> list[Transaction]:
    """Give each connection that named no mail its letter where that is certain, or the letters that it may have been for.

    `only_one`: the client was given a single item. Returns the connections whose mail no later try can have carried.
    """
    uncarried: list[Transaction] = []
    nameless = {one.session.client for one in transactions if one.sender is None}
    met = dict.fromkeys(one.session.client for one in transactions) if nameless else ()
    clients = {name: _Client() for name in met if name in nameless}
    for one in sorted(transactions, key=attrgetter("began_index")) if clients else ():
        if (client := clients.get(one.session.client)) is not None:
            client.add(one)
    for client in clients.values():
        letters = list(dict.fromkeys(one.letter for one in client.tries if one.letter is not None))
        if letters:
            _share(client, letters, only_one=only_one)
            uncarried += _uncarried(client)
        else:
            _invent(client, only_one=only_one)
    return uncarried


class _Client:
    """The tries of a client, in order.

    `follows` says of each if it began after all others had ended, and not soon after one at its server.
    """

    def __init__(self) -> None:
        self.tries: list[Transaction] = []
        self.follows: list[bool] = []
        self._latest: float = -1  # the index at which the last of them ended
        self._ended: dict[Journal, float] = {}  # when the last one ended, by server

    def add(self, one: Transaction) -> None:
        journal = one.session.connection.journal
        last = self._ended.get(journal)
        self.tries.append(one)
        self.follows.append(one.began_index > self._latest and (last is None or one.began_at - last >= AT_ONCE))
        index, at = one.settled
        if last is None or at > last:
            self._ended[journal] = at
        if index > self._latest:
            self._latest = index

    def alone(self) -> Iterator[tuple[Transaction, bool]]:
        """Each try: True if it began a while after all others had ended, and none began soon after it."""
        return zip(self.tries, map(and_, self.follows, [*self.follows[1:], True]), strict=True)

    def together(self) -> Iterator[list[Transaction]]:
        """The tries in groups between which the client was silent for a while."""
        group: list[Transaction] = []
        for one, follows in zip(self.tries, self.follows, strict=True):
            if follows and group:
                yield group
                group = []
            group.append(one)
        if group:
            yield group


def _invent(client: _Client, *, only_one: bool) -> None:
    """A client that never named any mail had at least as much of it as it had connections side by side."""
    letters: list[Letter] = []
    free_from = inf  # the index from which on one of them was under way no more
    for one, alone in client.alone():
        if free_from > one.began_index and not (only_one and letters):
            one.letter = Letter(f"the mail behind #{one.connection.number}", invented=True)
            letters.append(one.letter)
            free_from = min(free_from, one.ended_index)
        elif len(letters) == 1 and (alone or only_one):
            one.letter = letters[0]
            free_from = one.ended_index
        else:
            one.owners = letters


def _share(client: _Client, letters: list[Letter], *, only_one: bool) -> None:
    """A connection was for the only letter of its client, or for any of them."""
    for one, alone in client.alone():
        if one.sender is not None:
            continue
        if len(letters) == 1 and (alone or only_one) and letters[0].wanted(one.began_index):
            one.letter = letters[0]
        else:
            one.owners = letters


def _uncarried(client: _Client) -> list[Transaction]:
    """The connections, of several that came together, that are more than the letters that were tried afterwards."""
    last = {one.letter: one for one in client.tries if one.letter is not None and one.sender is not None}.values()
    times, indices = sorted(one.began_at for one in last), sorted(one.began_index for one in last)
    several = len({one.connection.journal for one in client.tries}) > 1
    more: list[Transaction] = []
    for together in client.together():
        unnamed = [one for one in together if one.sender is None and one.owners is not None]
        if unnamed:
            later = len(times) - bisect_left(times, max(one.settled[1] for one in together) + AT_ONCE)
            if several:  # another server may be tried at once (RFC 5321 §5.1)
                later = max(later, len(indices) - bisect_right(indices, unnamed[0].ended_index))
            more += unnamed[later:]
    return more
