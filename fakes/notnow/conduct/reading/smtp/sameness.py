"""Mail whose text came again under another name: with a new Message-ID, or with other headers and without one.

A client should keep the Message-ID of a message that it sends again (RFC 5322 §3.6.4), so that the receiver knows the
copy. Other mail may have the same text, as daily reports often have.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from notnow.conduct.reading.smtp.letter import Letter
from notnow.conduct.reading.smtp.transactions import Transaction


class Again(Struct, eq=False):
    """Two transactions of one client with the same envelope and text whose messages have different names."""

    recipient: str
    letter: Letter  # of the earlier one
    earlier: Transaction
    again: Transaction

    @property
    def text(self) -> str | None:
        """The hash of the text that both have."""
        return self.again.message.text_sha256 if self.again.message is not None else None


def same_text(transactions: list[Transaction]) -> Iterator[Again]:
    """Each message whose text came again under another name, in the order of the later ones."""
    last: dict[tuple[str, str | None, str, str], Transaction] = {}
    for one in transactions:
        text = one.message.text_sha256 if one.message is not None else None
        if text is None:
            continue
        for recipient in one.accepted:
            key = one.session.client, one.sender, recipient.address, text
            earlier = last.get(key)
            if earlier is not None and earlier.letter is not None and earlier.letter is not one.letter:
                yield Again(recipient.address, earlier.letter, earlier, one)
            last[key] = one


def copies_under_other_names(pairs: Sequence[Again], transactions: Iterable[Transaction]) -> Iterator[Again]:
    """Those in which the earlier one was accepted, and the client may have believed that it was not.

    It was told 421 right behind the 250; or several texts came again after a refusal, as when a batch is run again. A
    single text that comes again is other mail: a refusal in between may have been of that.
    """
    accepted = [
        pair for pair in pairs if pair.earlier.ending == "accepted" and pair.earlier.answered and pair.again.answered
    ]
    several = len({pair.text for pair in accepted}) > 1
    failed = sorted(one.ended_index for one in transactions if several and one.ending in ("deferred", "unanswered"))
    for pair in accepted:
        first, again = pair.earlier, pair.again
        i = bisect_left(failed, first.first.index)
        told = first.answered is not None and 421 in first.answered.codes[1:]
        refused = told or (i < len(failed) and failed[i] < again.first.index)
        if refused and first.ended_index < again.first.index:
            yield pair
