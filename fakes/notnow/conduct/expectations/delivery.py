"""The items that came through, how often, and those that did not."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from notnow import protocols
from notnow.conduct.expectations import first_unmet, unmet, without_occasion
from notnow.conduct.finding import HELD, Finding
from notnow.conduct.reading import attempts
from notnow.conduct.reading.ledger import COUNT, Item, Ledger, Try, distinct
from notnow.conduct.reading.run import Run
from notnow.journal import Connection, Exchange
from notnow.protocols.protocol import Words
from notnow.units import plural
from notnow.units import times as _often


class _Tree(Protocol):
    @property
    def partial(self) -> tuple[str, ...]: ...
    def size(self, name: str) -> int: ...


def delivered(run: Run, times: int, count: int | None = None) -> Finding:
    """Each item that the client asked for came through exactly `times` times, unless it was refused for good.

    `count`: how many items there must be. Without it, the finding is inconclusive where the journal cannot tell whether
    there were more than it names.
    """
    ledger, words = run.ledger, _words(run)
    expected = f"every {words.item} to be delivered {_often(times)}"
    through = [item for item in ledger.items if item.state in ("delivered", "duplicated")]
    if not through:
        return _nothing_delivered(run, expected, count)
    unmets = (_item_delivered(item, times, expected) for item in ledger.items)
    finding = first_unmet(unmets)
    if count is not None:
        return _counted(run, through, count, finding)
    return finding if finding.outcome == "broken" else _in_doubt(ledger, expected) or finding


def _words(run: Run) -> Words:
    return protocols.get(run.journals[0].protocol).words


def _nothing_delivered(run: Run, expected: str, count: int | None) -> Finding:
    """Nothing came through; that is no fault where all of it was refused for good, and proves none where nothing was asked for."""
    ledger = run.ledger
    refused = attempts.refusals(run.exchanges)
    unknown = [one for one in ledger.nameless if one.failed and not one.owners]
    known = bool(ledger.items) or any(one.ending == "refused" for one in ledger.nameless)
    if known and not unknown and not ledger.of_state("missing", "in doubt"):
        seen = "none was delivered: everything that the client asked for was refused for good"
        return without_occasion(expected, seen)
    if run.exchanges and not count and not (ledger.items or ledger.nameless or ledger.dropped or run.distrusted):
        seen = f"the client never asked for anything: it began no {_words(run).unfinished}"
        return Finding("inconclusive", seen, (), expected, COUNT)
    if ledger.of_state("in doubt") and not (count or refused or ledger.of_state("missing")):
        return _in_doubt(ledger, expected) or unmet(expected, "none was delivered")
    interrupted = [item.tries[-1].began for item in ledger.items if item.tries][:1] if not refused else []
    seen = f"none was delivered: {run.distrusted or why_nothing(_protocol(run), run.exchanges, refused)}"
    return unmet(expected, seen, refused[-1:] or interrupted)


def _protocol(run: Run) -> str:
    return run.journals[0].protocol


def _item_delivered(item: Item, times: int, expected: str) -> Finding:
    if item.state == "missing":
        last = item.tries[-1]
        return unmet(expected, f"{item.name} never came through: {_how_ended(last)}", [last.by])
    if item.state in ("refused", "in doubt") or item.repeatable:
        return HELD
    copies = item.copies
    spared = times == 1 and not item.surplus  # a copy that the client could not avoid is not its fault
    if spared or len(copies) == times:
        return HELD
    return unmet(expected, f"{item.name} {_fate(copies)} {_often(len(copies))}", _kept(copies))


def _counted(run: Run, through: Sequence[Item], count: int, finding: Finding) -> Finding:
    """A known number of items settles every doubt; an item that seems lost, or refused, may be one that came later."""
    settled = len(through) + len(run.ledger.of_state("refused"))
    if distinct(through) <= count <= settled:
        return finding if run.ledger.of_state("duplicated") else HELD
    if finding.outcome == "broken" and settled < count:
        return finding
    seen = f"there {'was' if len(through) == 1 else 'were'} {len(through)}"
    refusals = attempts.refusals(run.exchanges)
    return unmet(f"{plural(count, _words(run).item)} to be delivered", seen, refusals[-1:])


def _in_doubt(ledger: Ledger, expected: str) -> Finding | None:
    """The journal cannot tell the state of some items, or the number of items."""
    if ledger.doubts:
        doubt = ledger.doubts[0]
        return Finding("inconclusive", doubt.why, doubt.evidence, expected, doubt.settled_by)
    for item in ledger.of_state("in doubt"):
        return Finding("inconclusive", f"{item.name}: {item.doubt}", (item.tries[-1].by,), expected, COUNT)
    for doubt in ledger.may_be_copies:
        return Finding("inconclusive", doubt.why, doubt.evidence, expected, doubt.settled_by)
    return None


def _how_ended(last: Try) -> str:
    """How the last try of an item ended, for a Finding."""
    if isinstance(last.by, Connection):
        return "the client asked for it only on a connection that the server had closed"
    if last.by.transfer is not None and last.by.transfer.bytes and not last.by.transfer.whole:
        return f"it was cut after {last.by.transfer.bytes} bytes"
    if not last.by.refused:
        return "the client left before it was done"
    return f"the client {_got(last.by)}"


def not_delivered(run: Run) -> Finding:
    """No message was stored, no file came through whole, no request got a good answer."""
    found = [item for item in run.ledger.items if item.state in ("delivered", "duplicated")]
    if not found:
        return HELD
    others = f", and {len(found) - 1} more came through" if len(found) > 1 else ""
    seen = f"{found[0].name} {_fate(found[0].tries)}{others}"
    proof = [one.kept or one.began for item in found for one in item.tries if one.kept or one.ending == "accepted"]
    return unmet(f"no {_words(run).item} to be delivered", seen, proof)


def no_duplicates(run: Run) -> Finding:
    """The server accepted no item twice that the client could have known to be there."""
    expected = f"nothing to be {_words(run).done} twice"
    for item in run.ledger.of_state("duplicated"):
        return unmet(expected, f"{item.name} {_fate(item.copies)} {_often(len(item.copies))}", _kept(item.copies))
    for doubt in run.ledger.may_be_copies:
        return Finding("inconclusive", doubt.why, doubt.evidence, expected, doubt.settled_by)
    return HELD


def _kept(tries: Iterable[Try]) -> list[Exchange]:
    return [one.kept for one in tries if one.kept is not None]


def pieces(tree: _Tree) -> dict[str, int]:
    """The incomplete files and their sizes, but for those that a client removes meanwhile."""
    found = {}
    for name in tree.partial:
        with contextlib.suppress(KeyError):
            found[name] = tree.size(name)
    return found


def no_partial_files(exchanges: Iterable[Exchange], pieces: Mapping[str, int]) -> Finding:
    """No interrupted upload left a partial file; `pieces` are the names of such files and their sizes in bytes."""
    for name, size in pieces.items():
        seen = f"only {size} bytes of {name} have come"
        return unmet("every file to be whole", seen, uploads(exchanges, name)[-1:])
    return HELD


def uploads(exchanges: Iterable[Exchange], name: str) -> list[Exchange]:
    """The uploads of a file, in order."""
    path = path_of(name)
    asked = [(x, x.transfer) for x in exchanges]
    return [x for x, known in asked if known is not None and known.direction == "upload" and known.path == path]


def path_of(name: str) -> str:
    """The absolute path of a file, as the journal has it."""
    return "/" + posixpath.normpath("/" + name).lstrip("/")


def why_nothing(protocol: str, exchanges: Sequence[Exchange], refused: Sequence[Exchange]) -> str:
    """Why nothing came through, for a Finding; `refused` are the refusals that it tells of."""
    if not exchanges:
        return "nobody connected"
    unfinished = protocols.get(protocol).words.unfinished
    if not refused:
        return f"the client never finished a {unfinished}"
    last, count = refused[-1], len(attempts.retries(exchanges))
    told = f"it {_got(last)} at {last.moment}"
    if any(x.index > last.index and x.moment in attempts.ATTEMPTS for x in exchanges):
        return f"the client came back and got no {unfinished} through; the last time that it was refused, {told}"
    if count:
        return f"the client came back {_often(count)} and was refused again: the last time {told}"
    return f"the client {_got(last)} at {last.moment} and did not come back"


def _fate(tries: Iterable[Try]) -> str:
    """What became of an item that came through."""
    proof = [one.kept or one.began for one in tries]
    if any(x.http is not None for x in proof):
        return "was carried out"
    return "was stored" if any(x.stored for x in proof) else "was made"


def _got(exchange: Exchange) -> str:
    """The reply that the client was told, or what it got in place of one."""
    return f"was told {exchange.told!r}" if exchange.told in exchange.lines else f"got {exchange.told}"
