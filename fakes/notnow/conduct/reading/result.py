"""The result of a run: what became of the items that the client was to deliver or fetch, and whether the client said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from msgspec import Struct

from notnow.conduct.reading.ledger import COUNT, Doubt, Item, Ledger, distinct
from notnow.garbage import uncollected
from notnow.journal import Connection
from notnow.units import plural

Word = Literal[
    "delivered", "refused", "reported", "lost", "duplicated", "false alarm", "hung", "unknown", "nothing asked"
]
WORDS: tuple[Word, ...] = get_args(Word)
FAILURES: frozenset[Word] = frozenset({"lost", "duplicated", "false alarm"})


class Exit(Struct, frozen=True):
    """How a client ended: with an exit code, with an exception (`error`, 1 for its code), or not at all (`hung`)."""

    code: int | None = None
    error: str = ""
    hung: bool = False

    @property
    def good(self) -> bool | None:
        """True if the client says that all went well, False if it says that it did not; None if it is unknown."""
        return None if self.code is None else self.code == 0

    def __str__(self) -> str:
        if self.hung:
            return "the client did not end"
        if self.error:
            return f"the client raised {self.error}"
        return "it is unknown how the client ended" if self.code is None else f"the client exited with {self.code}"


UNKNOWN = Exit()


class Result(Struct, frozen=True):
    """The result of a run in a word, with the items that prove it.

    `asked` is the number of items that the client had, as far as it is known; `missing` is the number of those that did
    not come through and were not refused for good. `lost`, `duplicated` and `refused` are those that the journal names.
    `denied` are items that came through although the server told the client that they did not, or nothing. `through` counts
    all that came through. `doubts` are the questions that the journal leaves open.
    """

    word: Word
    ended: Exit = UNKNOWN
    asked: int = 0
    missing: int = 0
    lost: tuple[Item, ...] = ()
    duplicated: tuple[Item, ...] = ()
    refused: tuple[Item, ...] = ()
    denied: tuple[Item, ...] = ()
    through: int = 0
    doubts: tuple[Doubt, ...] = ()
    rejected: bool = False  # the client named no item, because it rejected the certificate

    @property
    def sentence(self) -> str:
        """The result in one line: `lost: 38 of 40 items, and the client exited with 0`."""
        return f"{self.word}: {_SENTENCES[self.word](self)}"

    def __str__(self) -> str:
        return self.sentence

    @property
    def items(self) -> tuple[Item, ...]:
        """The items that make the result what it is."""
        return self.duplicated if self.word == "duplicated" else self.lost


@uncollected()
def result(ledger: Ledger, ended: Exit = UNKNOWN, count: int | None = None) -> Result:
    """The result of a run. `count` is how many items the client was given, where that is known."""
    doubled, through = ledger.of_state("duplicated"), ledger.of_state("delivered", "duplicated")
    complete = count is not None and len(through) >= count
    lost, refused = ledger.of_state("missing"), [] if complete else ledger.of_state("refused")
    doubts = _doubts(ledger) if count is None else []
    settled = len(through) + len(refused)
    missing, more = len(lost), False
    if count is not None:  # what came through beyond it proves a copy only where something may be one
        missing, more = max(0, count - settled), bool(ledger.may_be_copies) and distinct(through) > count
    denied = (
        [item for item in through if not any(one.ending == "accepted" for one in item.tries)]
        if ended.good is False
        else []
    )
    word = _word(ledger, ended, missing, bool(doubled) or more, bool(refused), bool(doubts), bool(denied))
    asked = len(ledger.items) if count is None else count if more else max(count, settled)
    rejected = any(isinstance(one.by, Connection) and one.ending == "refused" for one in ledger.nameless)
    return Result(
        word,
        ended,
        asked,
        missing,
        tuple(lost),
        tuple(doubled),
        tuple(refused),
        tuple(denied),
        len(through),
        tuple(doubts),
        rejected,
    )


def _doubts(ledger: Ledger) -> list[Doubt]:
    """The doubts of the ledger, about items that it has and items that it may lack."""
    of_items = [Doubt(f"{i.name}: {i.doubt}", COUNT, (i.tries[-1].by,)) for i in ledger.of_state("in doubt")]
    dropped = f"the journal dropped {plural(ledger.dropped, 'exchange')}"
    lost = [Doubt(dropped, "a larger journal_limit")] if ledger.dropped else []
    return [*ledger.doubts, *of_items, *ledger.may_be_copies, *lost]


def _word(
    ledger: Ledger, ended: Exit, missing: int, doubled: bool, refused: bool, doubtful: bool, denied: bool
) -> Word:
    """The first word that fits."""
    if ended.hung:
        return "hung"
    if missing:
        return "unknown" if ended.good is None else "lost" if ended.good else "reported"
    if doubled:
        return "duplicated"
    if not ledger.items:
        return _of_nothing(ledger, doubtful)
    if doubtful:
        return "unknown"
    if refused:
        return "refused"
    if ended.good is False:
        return "reported" if denied else "false alarm"
    return "delivered"


def _of_nothing(ledger: Ledger, doubtful: bool) -> Word:
    """The word for a run in which the client named no item."""
    if any(one.ending == "refused" for one in ledger.nameless):
        return "refused"
    return "unknown" if doubtful else "nothing asked"


# ---- in words ------------------------------------------------------------------------------------


def _part(n: int, asked: int) -> str:
    """`38 of 40 items`."""
    return plural(n, "item") if n == asked else f"{n} of {plural(asked, 'item')}"


def _of_missing(result: Result) -> str:
    if not result.missing:
        kept = _part(len(result.denied), result.asked)
        return f"{kept} came through although the server did not say so, and {result.ended}"
    return f"{_part(result.missing, result.asked)}, and {result.ended}"


def _of_doubled(result: Result) -> str:
    if not result.duplicated:
        return f"{plural(result.through, 'item')} came through, and the client was given {result.asked}; {result.ended}"
    return f"{_part(len(result.duplicated), result.asked)}, and {result.ended}"


def _unknown(result: Result) -> str:
    if result.missing:
        return f"{_part(result.missing, result.asked)} did not come through, and {result.ended}"
    doubt = result.doubts[0]
    more = f" (and {len(result.doubts) - 1} more)" if len(result.doubts) > 1 else ""
    return f"{doubt.why}{more}; {doubt.settled_by} would settle it"


def _refused(result: Result) -> str:
    if not result.refused:
        how = "rejected the certificate, as it must," if result.rejected else "was refused for good"
        return f"the client {how} before it named an item; {result.ended}"
    many, kept_back = len(result.refused), sum(item.kept_back for item in result.refused)
    how = (
        "refused for good"
        if not kept_back
        else "rightly kept back"
        if kept_back == many
        else "refused for good or rightly kept back"
    )
    rest = ", and everything else came through" if many < result.asked else ""
    return f"{_part(many, result.asked)} {how}{rest}"


_SENTENCES: Mapping[Word, Callable[[Result], str]] = {
    "delivered": lambda result: f"all of {plural(result.asked, 'item')}" if result.asked > 1 else "1 item",
    "refused": _refused,
    "reported": _of_missing,
    "lost": _of_missing,
    "duplicated": _of_doubled,
    "false alarm": lambda result: f"{plural(result.asked, 'item')} came through, but {result.ended}",
    "hung": lambda result: f"{result.ended}; {_part(result.missing, result.asked)} had not come through",
    "unknown": _unknown,
    "nothing asked": lambda _: "the client asked the server for nothing",
}
