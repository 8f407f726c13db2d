"""Which message each SMTP transaction carried, as far as its content or its envelope tells.

A message is its Message-ID, else its content. Until the server has seen the content, the envelope stands for it: the
sender and the recipients, or the sender alone. A client is an address.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf

from notnow.conduct.reading.ledger import Item
from notnow.conduct.reading.transactions import Transaction


@dataclass(eq=False, slots=True)
class Letter:
    """A message of a client: its items by recipient; "" is its recipient as long as only the sender is known.

    `busy` are the spans (indices) of the transactions that are known to have carried it, in order. `accepted` are the
    recipients that have it, and since when.
    """

    name: str
    items: dict[str, Item] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    busy: list[tuple[int, float]] = field(default_factory=list)

    def item(self, recipient: str) -> Item:
        found = self.items.get(recipient)
        if found is None:
            name = f"{self.name} to {recipient}" if recipient else self.name
            found = self.items[recipient] = Item(name)
        return found

    def wanted(self, recipients: Iterable[str], index: int) -> list[str]:
        """Those of these recipients that the client did not know to have it."""
        return [r for r in recipients if self.accepted.get(r, inf) > index]

    def overlaps(self, start: int, end: float) -> bool:
        """True if another transaction carried it meanwhile."""
        i = bisect_left(self.busy, (start, start))
        return (i > 0 and self.busy[i - 1][1] > start) or (i < len(self.busy) and self.busy[i][0] < end)

    def carried(self, start: int, end: float) -> None:
        if self.busy and self.busy[-1][0] > start:
            self.busy.insert(bisect_left(self.busy, (start, end)), (start, end))
        else:
            self.busy.append((start, end))


class Sorter:
    """Gives each transaction its letter: first those whose content is known, then the others by their envelope.

    `owners` are the letters that a transaction may have carried, where the journal leaves several.
    """

    def __init__(self) -> None:
        self.letters: dict[Transaction, Letter] = {}
        self.owners: dict[Transaction, list[Letter]] = {}
        self._by_name: dict[str, Letter] = {}
        self._by_path: dict[tuple[str, str, str], dict[Letter, None]] = {}  # client, sender, recipient
        self._by_sender: dict[tuple[str, str], dict[Letter, None]] = {}
        self._unseen: dict[tuple[str, str, str], list[Letter]] = {}  # the letters whose content nobody has seen

    def sort(self, transactions: list[Transaction]) -> None:
        unseen = [one for one in transactions if not self._by_content(one)]
        for one in unseen:
            if one.sender is not None and one.recipients:
                self._by_envelope(one, one.sender)
        for one in unseen:
            if one.sender is not None and not one.recipients:
                self._by_sender_alone(one, one.sender)

    def _by_content(self, one: Transaction) -> bool:
        message = one.message
        if message is None or one.sender is None:
            return False
        letter = self._by_name.get(message.name)
        if letter is None:
            letter = self._by_name[message.name] = Letter(message.name)
        for recipient in one.recipients:
            self._by_path.setdefault((one.session.client, one.sender, recipient.address), {})[letter] = None
        self._give(one, letter, one.sender, [recipient.address for recipient in one.recipients])
        return True

    def _give(self, one: Transaction, letter: Letter, sender: str, recipients: Iterable[str]) -> None:
        client = one.session.client
        for address in recipients:
            letter.item(address)
        self.letters[one] = letter
        self._by_sender.setdefault((client, sender), {})[letter] = None
        letter.carried(*_span(one))
        for recipient in one.recipients:
            if (recipient.ending or one.ending) == "accepted":
                letter.accepted.setdefault(recipient.address, one.ended_index)

    def _by_envelope(self, one: Transaction, sender: str) -> None:
        """The envelope stands for the only message that has it; where several have it, the journal cannot tell."""
        client, start = one.session.client, one.first.index
        named = {r.address: self._by_path.get((client, sender, r.address), {}) for r in one.recipients}
        known = {letter: None for letters in named.values() for letter in letters}
        wanting = [letter for letter in known if letter.wanted(named, start)]
        if not wanting:
            self._give(one, self._unseen_letter(one, sender, list(named)), sender, named)
        elif len(known) == 1 and all(named.values()) and not wanting[0].overlaps(*_span(one)):
            self._give(one, wanting[0], sender, named)
        else:
            self.owners[one] = wanting
            strange = [r for r, letters in named.items() if not letters]
            if strange:  # nothing else has gone to these
                self._give(one, self._unseen_letter(one, sender, strange), sender, strange)

    def _by_sender_alone(self, one: Transaction, sender: str) -> None:
        known = self._by_sender.get((one.session.client, sender), {})
        named = [letter for letter in known if "" not in letter.items]
        wanting = [letter for letter in named if letter.wanted(letter.items, one.first.index)]
        if not wanting:
            self._give(one, self._unseen_letter(one, sender, [""]), sender, [""])
        elif len(named) == 1 and not wanting[0].overlaps(*_span(one)):
            self._give(one, wanting[0], sender, list(wanting[0].items))
        else:
            self.owners[one] = wanting

    def _unseen_letter(self, one: Transaction, sender: str, recipients: list[str]) -> Letter:
        """The letter of which the server has seen no more than the envelope: a client sends none twice at the same time."""
        client, span = one.session.client, _span(one)
        of_path = [self._unseen.setdefault((client, sender, recipient), []) for recipient in recipients]
        free = (letter for letters in of_path for letter in letters if not letter.overlaps(*span))
        found = next(free, None) or Letter(f"mail from {sender or '<>'}")
        for letters in of_path:
            if found not in letters:
                letters.append(found)
        return found


def _span(one: Transaction) -> tuple[int, float]:
    return one.first.index, one.settled[0]
