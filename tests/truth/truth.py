"""What is true of a run: what each item was told, what became of it, and what the client did about it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

AT_ONCE = 1.0  # scenario seconds; a client that comes back sooner has not waited


@dataclass(slots=True)
class ItemTruth:
    """An item that a client was given.

    `copies` is how often the server has it whole; `spare` how many of these the client could have spared, or the receiver
    cannot recognise. `said` is true once the server has said that it accepts it; `accepted` once the client has taken note
    of that. `refused` and `deferred` say what the client was told at least once. `dropped`: the client gave it up though it was
    neither accepted nor refused for good. `waits` are the scenario seconds between a failure and the next try; `named`
    says of each whether the wire showed in both tries which item it was. `repeated`: asked for again after a final refusal. `kept_back`: the client rightly did not
    repeat it. `shown`: the wire has named it at least once, by a name that no other item of the client has. `lucky`: the
    server has it whole, but the transfer that completed it was cut, so that neither side knows. `garbled`: the server has
    accepted something else under its name, and no reader of the wire can tell. `unsure`: its last try got no answer, so it
    may have been carried out.
    """

    copies: int = 0
    spare: int = 0
    kept_back: bool = False
    shown: bool = False
    lucky: bool = False
    garbled: bool = False
    unsure: bool = False
    said: bool = False
    accepted: bool = False
    refused: bool = False
    deferred: int = 0
    dropped: bool = False
    waits: list[tuple[float, bool]] = field(default_factory=list)
    repeated: int = 0
    failed_at: float | None = None
    failed_named: bool = False

    @property
    def lost(self) -> bool:
        return not (self.copies or self.refused or self.kept_back)

    def begins(self, now: float, *, named: bool) -> None:
        """The client tries it, again or for the first time."""
        if self.failed_at is not None:
            self.waits.append((now - self.failed_at, named and self.failed_named))
            self.failed_at = None

    def fails(self, now: float, *, named: bool) -> None:
        self.deferred += 1
        self.failed_at, self.failed_named = now, named

    @property
    def came_at_once(self) -> bool:
        return any(wait < AT_ONCE for wait, _ in self.waits)


@dataclass(slots=True)
class Truth:
    """What is true of a run. `exit` is the client's exit code; `faults` is how many replies a rule has decided.

    `went_on` is how often the client said more than QUIT on a connection after a 421.
    """

    items: dict[Hashable, ItemTruth] = field(default_factory=dict)
    exit: int = 0
    faults: int = 0
    went_on: int = 0

    def item(self, key: Hashable) -> ItemTruth:
        return self.items.setdefault(key, ItemTruth())

    @property
    def lost(self) -> list[Hashable]:
        return [key for key, item in self.items.items() if item.lost]

    @property
    def doubled(self) -> list[Hashable]:
        return [key for key, item in self.items.items() if item.spare]

    @property
    def lost_in_sight(self) -> list[Hashable]:
        """What is lost although the wire has shown it: the judge could know."""
        return [key for key, item in self.items.items() if item.lost and item.shown and not item.garbled]

    @property
    def lost_by_number(self) -> list[Hashable]:
        """What is lost, and missing from the number of items that came through."""
        return [key for key, item in self.items.items() if item.lost and not item.garbled]

    @property
    def missing(self) -> list[Hashable]:
        """What did not come through, refused for good or not."""
        return [key for key, item in self.items.items() if not item.copies or item.lucky]

    @property
    def came_at_once_by_name(self) -> bool:
        """The client came back at once with an item, and the wire showed that it was this one."""
        return any(wait < 0.9 * AT_ONCE and named for item in self.items.values() for wait, named in item.waits)
