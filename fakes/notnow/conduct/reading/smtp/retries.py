"""Retries of mail, as the ledger of an SMTP run proves them: which try came after which, and how long the client waited."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice, pairwise
from operator import attrgetter

from msgspec import Struct

from notnow.conduct.finding import Evidence
from notnow.conduct.reading.ledger import Item, Try
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import Mail, mail
from notnow.conduct.reading.smtp.endings import refused_for_now
from notnow.conduct.reading.smtp.unnamed import AT_ONCE
from notnow.journal import Connection, Exchange, Journal

SHOWN = 100  # tries that may have come too soon: one is enough for a verdict
SURELY_THE_SAME = 5  # requests with one sender and recipient that cannot be as many different messages
_BEFORE_MAIL = frozenset({"connect", "ehlo", "starttls", "auth"})
_WITHOUT_RECIPIENT = _BEFORE_MAIL | {"mail"}


class Retry(Struct, eq=False):
    """A try that the server had refused for now, the next one at the same server, and the seconds between them.

    `certain` is False where both may be of different mail: the wire does not name it, or the client came back at once
    although the server had not seen the content, and not even a recipient, of the first; or on a connection that was open
    before the refusal.
    """

    earlier: Try
    again: Try
    delay: float
    certain: bool = True


class Retries(Struct, eq=False):
    """`chains` are the tries of one item at one server, from one that was refused for now to the last that followed it; each
    has two or more.

    `found` are the retries in these chains. `unclear` are tries that came within a second after a refusal, and that may have
    been of the refused mail or of other mail. `spared` are retries that need not wait: after the server had closed a connection
    that had been of use until then, and of recipients that were too many for one transaction.
    """

    chains: list[list[Try]]
    doubtful: list[list[Try]]
    found: list[Retry]
    unclear: list[Retry]
    spared: list[Retry]


def retries(run: Run) -> Retries:
    """The retries of a run."""
    known = run.once(mail)
    useful, over_the_limit = _of_use_since(known), _over_the_limit(known)
    made = Retries([], [], [], [], [])
    every = list[Retry]()
    tried_again = (item for item in known.ledger.items if len(item.tries) > 1)
    for chain in (chain for item in tried_again for chain in _chains(item) if len(chain) > 1):
        links = list(_retries(chain, known.unseen, surely=run.count == 1))
        certain = all(link.certain for link in links) and (run.count == 1 or not _is_nameless(chain))
        (made.chains if certain else made.doubtful).append(chain)
        every += links
    for retry in (*every, *islice(_too_soon(known), SHOWN)):
        spared = retry.earlier in over_the_limit or _closed_after_use(retry.earlier, useful)
        kind = made.spared if spared else made.found if retry.certain else made.unclear
        kind.append(retry)
    return made


def first_refused(item: Item) -> Try | None:
    """The first try of an item that the server refused for now."""
    return next((one for one in item.tries if refused_for_now(one)), None)


def in_words(by: Evidence) -> str:
    """The reply code, or "no reply"."""
    return str(by.code) if isinstance(by, Exchange) and by.code is not None else "no reply"


def _chains(item: Item) -> Iterator[list[Try]]:
    """Tries at different servers are different chains (RFC 5321 §5.1); a chain ends when the mail has come through."""
    at: dict[Journal, list[Try]] = {}
    for one in item.tries:
        chain = at.get(one.connection.journal)
        if chain is not None and one.knew_of(chain[-1]):
            chain.append(one)
        else:
            chain = at[one.connection.journal] = [one]
        if not one.failed:
            yield from (chain for chain in at.values() if chain[0].failed)
            at.clear()
    yield from at.values()


def _retries(chain: list[Try], unseen: set[Item], *, surely: bool) -> Iterator[Retry]:
    """The retries in a chain; `surely`: the client has no other mail."""
    delays = [max(0.0, again.started_at - earlier.ended_at) for earlier, again in pairwise(chain)]
    many = sum(delay < AT_ONCE for delay in delays) + 1 >= SURELY_THE_SAME
    for earlier, again, delay in zip(chain, chain[1:], delays, strict=False):
        if refused_for_now(earlier):
            named = many or earlier.item not in unseen
            certain = surely or delay >= AT_ONCE or _certain(earlier, again, named=named)
            yield Retry(earlier, again, delay, certain)


def _is_nameless(chain: list[Try]) -> bool:
    """True if the server refused each of these before MAIL."""
    return all(isinstance(one.by, Exchange) and one.by.moment in _BEFORE_MAIL for one in chain)


def _certain(earlier: Try, again: Try, *, named: bool) -> bool:
    """True if a try that came at once was of the same mail for certain; `named`: the envelope tells it from other mail."""
    by, connection = earlier.by, again.connection
    if not all(isinstance(x, Exchange) and x.moment not in _WITHOUT_RECIPIENT for x in (by, again.by)):
        return False
    if isinstance(by, Exchange) and by.facts is not None and by.message is not None:
        return True
    return named and (connection is earlier.connection or connection.index > earlier.ended_index)


def _of_use_since(known: Mail) -> dict[Connection, int]:
    """The index at which each connection first took mail."""
    found: dict[Connection, int] = {}
    for one in known.transactions:
        if one.ending == "accepted":
            found.setdefault(one.connection, one.ended_index)
    return found


def _over_the_limit(known: Mail) -> set[Try]:
    """The recipients that were too many for a transaction in which others got the message (RFC 5321 §4.5.3.1.10)."""
    took = (t for t in known.shared if t.ending == "accepted" and t.accepted)
    return {
        one
        for t in took
        for one in t.tries
        if isinstance(one.by, Exchange) and one.by.moment == "rcpt" and one.by.code in (452, 552)
    }


def _closed_after_use(one: Try, useful: dict[Connection, int]) -> bool:
    by = one.by
    if not isinstance(by, Exchange) or (by.end is None and 421 not in by.codes):
        return False
    return useful.get(one.connection, one.ended_index) < one.ended_index


def _too_soon(known: Mail) -> Iterator[Retry]:
    """Tries without a name, or after one without a name, that came at once after a refusal."""
    if not known.ledger.nameless:
        return
    tries = known.ledger.tries
    refused = deque(sorted(known.put_off, key=attrgetter("ended_index")))
    last: dict[tuple[Journal, str], Try] = {}
    for one in tries:
        while refused and refused[0].ended_index < one.started_index:
            ended = refused.popleft()
            last[ended.client] = ended
        earlier = last.get(one.client)
        if earlier is not None and None in (earlier.item, one.item):
            delay = max(0.0, one.started_at - earlier.ended_at)
            if delay < AT_ONCE and _may_be_the_same(earlier, one):
                yield Retry(earlier, one, delay, certain=False)


def _may_be_the_same(earlier: Try, again: Try) -> bool:
    """True if some item may be that of both."""
    if earlier.item is None and again.item is None:
        return True
    item, owners = (earlier.item, again.owners) if earlier.item is not None else (again.item, earlier.owners)
    return item in owners
