"""The ledger of an SMTP run: an item is a message to one recipient, and a try a transaction that was to carry it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from operator import attrgetter

from msgspec import Struct

from notnow import protocols
from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import COUNT, Doubt, Ending, Item, Ledger, Try, tell_apart
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.endings import end_of, refused_for_now
from notnow.conduct.reading.smtp.letter import Letter
from notnow.conduct.reading.smtp.letters import LOOKED_THROUGH, Sorter
from notnow.conduct.reading.smtp.sameness import Again, copies_under_other_names, same_text
from notnow.conduct.reading.smtp.transactions import Recipient, Session, Transaction, read
from notnow.conduct.reading.smtp.unnamed import attribute
from notnow.journal import Exchange
from notnow.units import plural

SHOWN = 5  # pieces of evidence of a doubt
SETTLED_BY = f"a Message-ID in each message that reaches the server, or {COUNT}"


class Mail(Struct, eq=False):
    """The sessions of all clients of an SMTP run in the order in which they began, their transactions in order, and the
    ledger of it all.

    `shared` are transactions with several recipients. `put_off` are the tries that the server refused for now, in the order
    of their transactions, and `endings` those that tries had. `unseen` are the items of messages whose content the server has never seen. `last_unnamed` is the index
    at which the last of the tries began that may have been of an item, and may not.
    """

    sessions: list[Session]
    transactions: list[Transaction]
    shared: list[Transaction]
    ledger: Ledger
    put_off: list[Try]
    endings: set[Ending]
    unseen: set[Item]
    last_unnamed: dict[Item, int]
    count: int | None = None

    @property
    def complete(self) -> bool:
        """True if every item that the client was given is known to have come through."""
        return self.count is not None and self.count == len(self.ledger.of_state("delivered")) == len(self.ledger.items)


def ledger(run: Run) -> Ledger:
    """The items of an SMTP run."""
    return run.once(mail).ledger


def mail(run: Run) -> Mail:
    """The sessions, transactions and items of a run."""
    each = any(protocols.get(journal.protocol).answers_each_recipient for journal in run.journals)
    opened = sorted(run.by_connection, key=attrgetter("index"))
    sessions = [read(connection, run.by_connection[connection], each=each) for connection in opened]
    transactions = [one for session in sessions for one in session.transactions]
    transactions.sort(key=attrgetter("first.index"))
    unclear = Sorter().sort(transactions)
    uncarried = attribute(transactions, only_one=run.count == 1)
    filer = _Filer()
    for transaction in transactions:
        filer.file(transaction)
    found = filer.ledger
    for one in found.nameless:
        if one.ending == "refused" and len(one.owners) <= LOOKED_THROUGH:
            _leave_in_doubt(one)
    for item in filer.asked_about:
        if all(one.ending == "abandoned" for one in item.tries):
            item.in_doubt = item.in_doubt or "the client took it back itself, and may have wanted no more than to ask"
    pairs = list(same_text(transactions))
    for pair in pairs:
        _may_be_the_same(pair)
    found.may_be_copies += map(_copy, copies_under_other_names(pairs, transactions))
    found.doubts += _doubts(unclear, uncarried)
    found.dropped = run.dropped
    tell_apart(found, run.count)
    shared = [one for one in transactions if len(one.recipients) > 1]
    last = _last_unnamed(found.nameless)
    endings = {one.ending for one in found.tries}
    return Mail(sessions, transactions, shared, found, filer.put_off, endings, filer.unseen, last, run.count)


def _leave_in_doubt(refused: Try) -> None:
    """The mail that was refused for good may have been any of these items."""
    for item in refused.owners:
        if item.tries and refused.knew_of(item.tries[-1]) and item.tries[-1].failed:
            item.in_doubt = "a later try, which may have been of it, was refused for good"


def _copy(pair: Again) -> Doubt:
    why = f"the text of {pair.letter.name} came to {pair.recipient} again under another Message-ID"
    return Doubt(
        f"{why}: as a second copy, or as other mail",
        COUNT,
        tuple(filter(None, (pair.earlier.answered, pair.again.answered))),
    )


def _may_be_the_same(pair: Again) -> None:
    """A message that was refused for now may have come again under another name."""
    item = pair.letter.item(pair.recipient)
    if pair.earlier.ending in ("deferred", "unanswered") and item.tries and item.tries[-1].failed:
        item.in_doubt = "the same text came later under another Message-ID"


def _last_unnamed(nameless: Iterable[Try]) -> dict[Item, int]:
    latest: dict[int, Try] = {}  # many tries share their owners
    for one in nameless:
        before = latest.setdefault(id(one.owners), one)
        if one.started_index > before.started_index:
            latest[id(one.owners)] = one
    found: dict[Item, int] = {}
    for one in latest.values():
        for item in one.owners:
            found[item] = max(found.get(item, 0), one.started_index)
    return found


_NOBODY = Recipient("", None)


class _Filer:
    """Makes a try of each transaction for each of its recipients, and adds it to its item."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.unseen: set[Item] = set()
        self.asked_about: list[Item] = []  # the client took it back before DATA, and nobody had refused anything
        self.put_off: list[Try] = []
        self._items: dict[int, tuple[Item, ...]] = {}

    def file(self, one: Transaction) -> None:
        tries = self._named(one, one.letter) if one.letter is not None else []
        if one.owners is not None:
            tries.append(self._nameless(one, one.owners))
        one.tries = tries
        for found in tries:
            if refused_for_now(found):
                self.put_off.append(found)

    def _named(self, one: Transaction, letter: Letter) -> list[Try]:
        tries: list[Try] = []
        for address, recipient in self._recipients(one, letter):
            found, item = _try(one, recipient), letter.items[address]
            self._add(item, one, recipient, found)
            if not letter.seen:
                self.unseen.add(item)
            if found.ending == "abandoned" and one.data is None and not any(r.ending for r in one.recipients):
                self.asked_about.append(item)
            tries.append(found)
        return tries

    def _nameless(self, one: Transaction, owners: Sequence[Letter]) -> Try:
        recipients = one.recipients
        found = _try(one, recipients[-1] if recipients and not one.accepted else _NOBODY)
        found.owners = self._items_to(owners, recipients) if recipients else self._items_of(owners)
        self.ledger.nameless.append(found)
        return found

    @staticmethod
    def _recipients(one: Transaction, letter: Letter) -> Iterable[tuple[str, Recipient]]:
        """The recipients whose items it was a try of: all of the letter's, if it came to no RCPT."""
        if not letter.items:
            letter.item("")
        if not one.recipients:
            return [(address, _NOBODY) for address in letter.wanted(one.first.index)]
        last = {(r.address, r.by): r for r in one.recipients if r.address in letter.items}
        return [(r.address, r) for r in last.values()]

    def _add(self, item: Item, one: Transaction, recipient: Recipient, found: Try) -> None:
        if not item.tries:
            self.ledger.items.append(item)
        elif found.started_index <= item.tries[-1].ended_index:
            _start_later(one, recipient, found, item.tries[-1].ended_index)
        item.add(found)
        item.kept_back = one.session.rejected_certificate
        if one.ending is None:
            item.in_doubt = "its last try was still under way"

    def _items_to(self, letters: Sequence[Letter], recipients: Sequence[Recipient]) -> tuple[Item, ...]:
        if len(letters) > LOOKED_THROUGH:
            return self._items_of(letters)
        to = {recipient.address for recipient in recipients}
        return tuple(item for letter in letters for address, item in letter.items.items() if address in to)

    def _items_of(self, letters: Sequence[Letter]) -> tuple[Item, ...]:
        """The items of these letters; many tries share the letters that they may have carried."""
        key = id(letters)
        if key not in self._items:
            self._items[key] = tuple(item for letter in letters for item in letter.items.values())
        return self._items[key]


def _try(one: Transaction, recipient: Recipient) -> Try:
    session, connection = one.session, one.connection
    began = session.exchanges[0] if one is session.transactions[0] else one.first
    index, at = began.index, began.at
    if one.said_after:
        index, at = one.ended_index, one.ended_at
    if recipient.ending is not None and recipient.by is not None:
        by: Evidence = recipient.by
        ended_index, ended_at = end_of(by, recipient.ending)
        return Try(began, by, recipient.ending, at, index, ended_at, ended_index, recipient.kept)
    if one.ending is None or one.by is None:
        return Try(began, session.exchanges[-1], "unanswered", at, index, connection.journal.clock.now(), sys.maxsize)
    kept = one.kept if recipient.asked is not None else None
    return Try(began, one.by, one.ending, at, index, one.ended_at, one.ended_index, kept)


def _start_later(one: Transaction, recipient: Recipient, found: Try, after: int) -> None:
    """The try began before the one before it had ended: it counts from the next command, if there was one."""
    asked = [one.first, *([recipient.asked] if recipient.asked is not None else [])]
    x = next((x for x in asked if x.index > after), asked[-1])
    if not one.said_after:
        found.began, found.started_index, found.started_at = x, x.index, x.at


def _doubts(by_envelope: Sequence[Transaction], uncarried: Sequence[Transaction]) -> list[Doubt]:
    found = []
    if by_envelope:
        proof = _shown(one.first for one in by_envelope)
        why = f"{plural(len(by_envelope), 'try', 'tries')} may have been of other mail with the same envelope"
        found.append(Doubt(why, SETTLED_BY, proof))
    if uncarried:
        proof = _shown(one.first for one in uncarried)
        why = f"{plural(len(uncarried), 'connection')} refused before MAIL may have been for mail that never came again"
        found.append(Doubt(why, COUNT, proof))
    return found


def _shown(found: Iterable[Exchange]) -> tuple[Exchange, ...]:
    return tuple(x for _, x in zip(range(SHOWN), found, strict=False))
