"""Which message each SMTP transaction carried, as far as its content or its envelope tells.

A message is its Message-ID, else its content. Until the server has seen the content, the envelope stands for it: the
sender and the recipients, or the sender alone. A client is an address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import islice
from math import inf
from operator import itemgetter

from msgspec import Struct

from notnow.conduct.reading.smtp.letter import Letter
from notnow.conduct.reading.smtp.transactions import Transaction
from notnow.journal import Exchange

_TAKEN_FOR_REFUSED = "it may be mail that was accepted and, in the same reply, refused with 421"
LOOKED_THROUGH = 16  # letters with the same envelope; without a bound, many of them take quadratic time


class _Bundle(Struct, eq=False):
    """Letters with something of the envelope in common: a sender, or sender and `recipient`.

    `unsure_from` is the index from which on the client may have taken one that was accepted for refused: a 421 followed
    in the same reply.
    """

    recipient: str | None = None
    unsure_from: float = inf
    letters: dict[Letter, None] = {}
    _all: tuple[Letter, ...] = ()
    _until: float = 0.0  # the index from which on the client knew that all of them had come through

    def wanting(self, index: int) -> tuple[Letter, ...]:
        """Those that the client did not know to have come through. Of many letters, all of them if one qualifies."""
        if len(self._all) != len(self.letters):
            self._all = tuple(self.letters)
            self._until = max(map(self._known_from, self._all))
        if index >= self._until or len(self._all) > LOOKED_THROUGH:
            return self._all if index < self._until else ()
        return tuple(letter for letter in self._all if self._known_from(letter) > index)

    def _known_from(self, letter: Letter) -> float:
        recipients = letter.items if self.recipient is None else (self.recipient,)
        return max((letter.accepted.get(r, inf) for r in recipients), default=inf)


_Path = tuple[str, str, str]  # client, sender, recipient
_Span = tuple[int, float]  # the indices at which a transaction began, and at which the client knew how it had ended


class _Unseen:
    """Letters whose content the server has never seen, by their path, each with its place among those of the path.

    Those under way are in a heap by the index at which they end, those that may be tried again in one by their places.
    Transactions come in order, so that a letter that has ended stays so until it is tried again.
    """

    def __init__(self) -> None:
        self._busy: dict[_Path, list[tuple[float, int, Letter]]] = {}
        self._idle: dict[_Path, list[tuple[int, Letter]]] = {}

    def add(self, path: _Path, letter: Letter, end: float) -> None:
        busy = self._busy.get(path)
        if busy is None:
            self._busy[path] = [(end, 0, letter)]
        else:
            heappush(busy, (end, len(busy) + len(self._idle.get(path, ())), letter))

    def free(self, paths: Iterable[_Path], start: int, end: float) -> Letter | None:
        """The first of the letters, of the first path that has one, that no transaction carries meanwhile."""
        for path in paths:
            busy = self._busy.get(path)
            if busy is not None and (found := self._free(path, busy, start, end)) is not None:
                return found
        return None

    def _free(self, path: _Path, busy: list[tuple[float, int, Letter]], start: int, end: float) -> Letter | None:
        idle = self._idle.setdefault(path, [])
        while busy and busy[0][0] <= start:
            _, place, letter = heappop(busy)
            heappush(idle, (place, letter))
        while idle and idle[0][1].overlaps(start, end):
            place, letter = heappop(idle)
            heappush(busy, (letter.busy[-1][1], place, letter))
        return idle[0][1] if idle else None


class Sorter:
    """Gives each transaction its letter: first those whose content is known, then the others by their envelope."""

    def __init__(self) -> None:
        self._unclear: list[Transaction] = []
        self._by_name: dict[str, Letter] = {}
        self._by_path: dict[_Path, _Bundle] = {}
        self._by_sender: dict[tuple[str, str], _Bundle] = {}
        self._known: dict[
            Letter, list[tuple[int, frozenset[str]]]
        ] = {}  # where the server has seen it, and to whom it went
        self._unseen = _Unseen()
        self._splitting: set[str] = set()  # clients that send one message in several transactions

    def sort(self, transactions: list[Transaction]) -> list[Transaction]:
        """Sort all transactions of a run, once; returns those that may have carried one of several letters."""
        named = (one for one in transactions if one.sender is not None)
        unseen = [one for one in named if one.content is None or not self._by_content(one, one.sender or "")]
        for one in unseen:
            if one.recipients:
                self._by_envelope(one, one.sender or "")
        for one in unseen:
            if not one.recipients:
                self._by_sender_alone(one, one.sender or "")
        return self._unclear

    def _by_content(self, one: Transaction, sender: str) -> bool:
        message = one.message
        if message is None or not (message.message_id or message.sha256):
            return False
        letter = self._by_name.get(message.name)
        if letter is None:
            letter = self._by_name[message.name] = Letter(
                message.name, seen=True, marked=message.message_id is not None
            )
        elif not any(recipient.address in letter.items for recipient in one.recipients):
            self._splitting.add(one.session.client)
        for recipient in one.recipients:
            path = one.session.client, sender, recipient.address
            bundle = self._by_path.get(path)
            if bundle is None:
                bundle = self._by_path[path] = _Bundle(recipient.address)
            bundle.letters[letter] = None
        to = [recipient.address for recipient in one.recipients]
        self._known.setdefault(letter, []).append((one.first.index, frozenset(to)))
        self._give(one, letter, sender, to, _span(one))
        return True

    def _give(self, one: Transaction, letter: Letter, sender: str, recipients: Iterable[str], span: _Span) -> None:
        for address in recipients:
            letter.item(address)
        one.letter = letter
        letter.carried(span)
        if "" not in letter.items:
            key = one.session.client, sender
            if key not in self._by_sender:
                self._by_sender[key] = _Bundle()
            self._by_sender[key].letters[letter] = None
        for recipient in one.recipients:
            if (recipient.ending or one.ending) == "accepted":
                letter.accepted.setdefault(recipient.address, one.ended_index)
                bundle = self._by_path.get((one.session.client, sender, recipient.address))
                if bundle is not None and isinstance(one.by, Exchange) and 421 in one.by.codes[1:]:
                    bundle.unsure_from = min(bundle.unsure_from, one.ended_index)

    def _by_envelope(self, one: Transaction, sender: str) -> None:
        """The envelope stands for the only message that has it; if several have it, the journal cannot tell."""
        client = one.session.client
        to = list(dict.fromkeys(recipient.address for recipient in one.recipients))
        bundles = [self._by_path.get((client, sender, address)) for address in to]
        wanting, span = _wanting(bundles, one.first.index), _span(one)
        if not wanting:
            found = self._unseen_letter(one, sender, to, span)
            self._give(one, found, sender, to, span)
            for address, bundle in zip(to, bundles, strict=True):
                if bundle is not None and bundle.unsure_from < one.first.index:
                    found.item(address).in_doubt = _TAKEN_FOR_REFUSED
        elif (letter := self._certain(one, sender, wanting, bundles)) is not None:
            self._give(one, letter, sender, to, span)
        else:
            self._leave_open(one, wanting)
            strange = [address for address, bundle in zip(to, bundles, strict=True) if bundle is None]
            if strange:  # no known message went to these
                self._give(one, self._unseen_letter(one, sender, strange, span), sender, strange, span)

    def _by_sender_alone(self, one: Transaction, sender: str) -> None:
        bundle = self._by_sender.get((one.session.client, sender))
        wanting, span = bundle.wanting(one.first.index) if bundle is not None else (), _span(one)
        if not wanting:
            self._give(one, self._unseen_letter(one, sender, [""], span), sender, [""], span)
        elif (letter := self._certain(one, sender, wanting, [bundle])) is not None:
            self._give(one, letter, sender, list(letter.items), span)
        else:
            self._leave_open(one, wanting)

    def _leave_open(self, one: Transaction, wanting: Sequence[Letter]) -> None:
        one.owners = wanting
        self._unclear.append(one)

    def _certain(
        self, one: Transaction, sender: str, wanting: Sequence[Letter], bundles: Sequence[_Bundle | None]
    ) -> Letter | None:
        """The letter that it carried, if there is no other explanation.

        No server has refused mail that a client began on a connection that was already closed, so it may come again at
        once: the next letter counts as this one.
        """
        if one.said_after and len(wanting) <= LOOKED_THROUGH:
            return min(wanting, key=lambda letter: letter.next_after(one.ended_index))
        if one.session.client in self._splitting:  # any message of the sender may go to these recipients, too
            bundles = [*bundles, self._by_sender.get((one.session.client, sender))]
        only = len(wanting) == 1 and all(
            bundle is not None and [*islice(bundle.letters, 2)] == [*wanting] for bundle in bundles
        )
        return wanting[0] if only and not wanting[0].overlaps(*_span(one)) and self._fits(wanting[0], one) else None

    def _fits(self, letter: Letter, one: Transaction) -> bool:
        """True if the recipients of a transaction may be those of the letter then.

        It goes on to no more than before, and not to those that the client knew to have it.
        """
        to = {recipient.address for recipient in one.recipients}
        if any(letter.accepted.get(address, inf) < one.first.index for address in to):
            return False
        if one.cut_short or not to:
            return True
        known = self._known.get(letter, [])
        i = bisect_right(known, one.first.index, key=itemgetter(0))
        return known[i][1] <= to if i < len(known) else to <= letter.items.keys()

    def _unseen_letter(self, one: Transaction, sender: str, to: list[str], span: _Span) -> Letter:
        """The letter of which the server has seen no more than the envelope; a client sends no letter twice at the same time."""
        client = one.session.client
        paths = [(client, sender, address) for address in to]
        found = self._unseen.free(paths, *span) or Letter(f"mail from {sender or '<>'}")
        for path in paths:
            if path[2] not in found.items:
                self._unseen.add(path, found, span[1])
        return found


def _wanting(bundles: Iterable[_Bundle | None], index: int) -> tuple[Letter, ...]:
    found: dict[Letter, None] = {}
    for bundle in bundles:
        wanting = bundle.wanting(index) if bundle is not None else ()
        if len(wanting) > LOOKED_THROUGH:
            return wanting
        found |= dict.fromkeys(wanting)
    return tuple(found)


def _span(one: Transaction) -> _Span:
    return one.first.index, one.settled[0]
