"""The result of a run: what became of the items that the client was to deliver or fetch, and whether the client said so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

from msgspec import Struct

from notnow.conduct.reading.garbage import uncollected
from notnow.conduct.reading.ledger import COUNT, Doubt, Item, Ledger
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
    `doubts` are the questions that it leaves open.
    """

    word: Word
    ended: Exit = UNKNOWN
    asked: int = 0
    missing: int = 0
    lost: tuple[Item, ...] = ()
    duplicated: tuple[Item, ...] = ()
    refused: tuple[Item, ...] = ()
    doubts: tuple[Doubt, ...] = ()

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
    lost, refused = ledger.of_state("missing"), ledger.of_state("refused")
    doubled, through = ledger.of_state("duplicated"), ledger.of_state("delivered", "duplicated")
    doubts = _doubts(ledger) if count is None else []
    missing = len(lost) if count is None else max(0, count - len(through) - len(refused))
    word = _word(ledger, ended, missing, bool(doubled), bool(refused), bool(doubts))
    asked = len(ledger.items) if count is None else max(count, len(through) + len(refused))
    return Result(word, ended, asked, missing, tuple(lost), tuple(doubled), tuple(refused), tuple(doubts))


def _doubts(ledger: Ledger) -> list[Doubt]:
    """The doubts of the ledger, about items that it has and items that it may lack."""
    of_items = [Doubt(f"{i.name}: {i.doubt}", COUNT, (i.tries[-1].by,)) for i in ledger.of_state("in doubt")]
    dropped = f"the journal dropped {plural(ledger.dropped, 'exchange')}"
    lost = [Doubt(dropped, "a larger journal_limit")] if ledger.dropped else []
    return [*ledger.doubts, *of_items, *lost]


def _word(ledger: Ledger, ended: Exit, missing: int, doubled: bool, refused: bool, doubtful: bool) -> Word:
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
    return "false alarm" if ended.good is False else "delivered"


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
    return f"{_part(result.missing, result.asked)}, and {result.ended}"


def _unknown(result: Result) -> str:
    if result.missing:
        return f"{_part(result.missing, result.asked)} did not come through, and {result.ended}"
    doubt = result.doubts[0]
    more = f" (and {len(result.doubts) - 1} more)" if len(result.doubts) > 1 else ""
    return f"{doubt.why}{more}; {doubt.settled_by} would settle it"


def _refused(result: Result) -> str:
    if not result.refused:
        why = "the server refused the client for good, or the client rightly rejected the server"
        return f"the client named no item: {why}; {result.ended}"
    return f"{_part(len(result.refused), result.asked)} refused for good, and everything else came through"


_SENTENCES: Mapping[Word, Callable[[Result], str]] = {
    "delivered": lambda result: f"all of {plural(result.asked, 'item')}" if result.asked > 1 else "1 item",
    "refused": _refused,
    "reported": _of_missing,
    "lost": _of_missing,
    "duplicated": lambda result: f"{_part(len(result.duplicated), result.asked)}, and {result.ended}",
    "false alarm": lambda result: f"{plural(result.asked, 'item')} came through, but {result.ended}",
    "hung": lambda result: f"{result.ended}; {_part(result.missing, result.asked)} had not come through",
    "unknown": _unknown,
    "nothing asked": lambda _: "the client asked the server for nothing",
}
