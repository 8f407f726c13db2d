"""When a rule acts: its moment, and conditions that must all hold.

A condition on what has been counted is a class and a key of `When` that names the class: `nth = key(Count, Nth, …)`.
The JSON Schema, the checks, the engine, `notnow show` and the reference in the docs follow from the two. A key without
its class, or a class without its key, is a TypeError at import.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from notnow.language.condition import Condition, Counted, Keys, Owners, Quota, Variant
from notnow.language.tables import Table, key, required
from notnow.language.values import (
    Amount,
    Count,
    Flag,
    Length,
    Names,
    Percent,
    any_table,
    one_of,
    some_of,
    whole_number,
)
from notnow.units import Span, ordinal, show
from notnow.units import times as times_in_words

PER = ("server", "client", "connection", "user", "sender", "recipient", "host", "path")
SINCE = ("any", "command", "transfer", "connect")


class Nth(Condition, frozen=True):
    n: int

    def holds(self, counted: Counted, _now: float, _owners: Owners, /) -> bool:
        return counted.count == self.n

    def left(self, counted: Counted, /) -> int | None:
        return 1 if counted.count < self.n else 0

    def words(self, _lasting: bool = False, /) -> str:
        return f"only the {ordinal(self.n)}"

    @property
    def events(self) -> tuple[int, int | None]:
        return self.n, self.n

    @property
    def limit(self) -> float | None:
        return self.n


class Every(Condition, frozen=True):
    n: int

    def holds(self, counted: Counted, _now: float, _owners: Owners, /) -> bool:
        return counted.count % self.n == 0

    def words(self, _lasting: bool = False, /) -> str:
        return f"every {ordinal(self.n)}"

    @property
    def events(self) -> tuple[int, int | None]:
        return self.n, None


class First(Condition, frozen=True):
    n: int

    @classmethod
    def of(cls, value: Any, _rule: Keys, _index: int) -> Condition | None:
        return FirstFor(value) if isinstance(value, Span) else cls(value)

    def holds(self, counted: Counted, _now: float, _owners: Owners, /) -> bool:
        return counted.count <= self.n

    def left(self, counted: Counted, /) -> int | None:
        return max(0, self.n - counted.count)

    def words(self, _lasting: bool = False, /) -> str:
        return "only the first" if self.n == 1 else f"only the first {self.n}"

    @property
    def events(self) -> tuple[int, int | None]:
        return 1, self.n

    @property
    def limit(self) -> float | None:
        return self.n


class FirstFor(Variant, frozen=True):
    """`first` as a duration: within so many seconds of the key's first event."""

    span: float
    tells = frozenset({"wait", "reset"})

    def holds(self, counted: Counted, now: float, _owners: Owners, /) -> bool:
        return now - counted.since < self.span

    def saw(self, counted: Counted, now: float, /) -> str:
        return f"the first one was {show(now - counted.since)} before"

    def words(self, _lasting: bool = False, /) -> str:
        return f"for {show(self.span)} from the first one"

    def quota(self, counted: Counted, now: float, /) -> Quota:
        left = max(0.0, counted.since + self.span - now)
        return Quota(wait=left, reset=left)

    @property
    def seconds(self) -> tuple[float, float | None]:
        return 0.0, self.span

    @property
    def limit(self) -> float | None:
        return self.span


class After(Condition, frozen=True):
    n: int
    tells = frozenset({"remaining"})

    @classmethod
    def of(cls, value: Any, rule: Keys, _index: int) -> Condition | None:
        if "idle" in rule.on:  # there it is the length of the silence
            return None
        return AfterFor(value) if isinstance(value, Span) else cls(value)

    def holds(self, counted: Counted, _now: float, _owners: Owners, /) -> bool:
        return counted.count > self.n

    def words(self, _lasting: bool = False, /) -> str:
        return f"after the first {self.n}"

    def quota(self, counted: Counted, _now: float, /) -> Quota:
        return Quota(remaining=max(0, self.n - counted.count))

    @property
    def events(self) -> tuple[int, int | None]:
        return self.n + 1, None

    @property
    def limit(self) -> float | None:
        return self.n


class AfterFor(Variant, frozen=True):
    """`after` as a duration: so many seconds after the key's first event, or later."""

    span: float

    def holds(self, counted: Counted, now: float, _owners: Owners, /) -> bool:
        return now - counted.since >= self.span

    def saw(self, counted: Counted, now: float, /) -> str:
        return f"the first one was {show(now - counted.since)} before"

    def words(self, _lasting: bool = False, /) -> str:
        return f"from {show(self.span)} after the first one"

    @property
    def events(self) -> tuple[int, int | None]:
        return 2, None

    @property
    def seconds(self) -> tuple[float, float | None]:
        return self.span, None

    @property
    def limit(self) -> float | None:
        return self.span


class Over(Condition, frozen=True):
    """So many others are already in: an owner of a slot that asks again is not turned away."""

    n: int
    counts = "slots"
    never_at = frozenset({"idle"})
    tells = frozenset({"remaining"})

    @classmethod
    def of(cls, value: Any, rule: Keys, _index: int) -> Condition | None:
        return cls(value) if rule.within is None else OverWithin(value, rule.within)

    def holds(self, counted: Counted, _now: float, owners: Owners, /) -> bool:
        return len(counted.held) >= self.n and len(counted.held.difference(owners)) >= self.n

    def saw(self, counted: Counted, _now: float, /) -> str:
        return f"there {'was' if len(counted.held) == 1 else 'were'} {len(counted.held)}"

    def words(self, lasting: bool = False, /) -> str:
        return f"when {self.n} {'is' if self.n == 1 else 'are'} {'in progress' if lasting else 'in'} already"

    def quota(self, counted: Counted, _now: float, /) -> Quota:
        return Quota(remaining=max(0, self.n - len(counted.held)))

    @property
    def slots(self) -> int:
        return self.n

    @property
    def limit(self) -> float | None:
        return self.n


class OverWithin(Variant, frozen=True):
    """`over` with `within`: so many were let through in the last `span` seconds."""

    n: int
    span: float
    counts = "slots"
    never_at = frozenset({"idle"})
    tells = frozenset({"remaining", "wait", "reset"})

    def holds(self, counted: Counted, now: float, _owners: Owners, /) -> bool:
        return len(self._recent(counted, now)) >= self.n

    def saw(self, counted: Counted, now: float, /) -> str:
        n = len(self._recent(counted, now))
        return f"there {'was' if n == 1 else 'were'} {n}"

    def words(self, _lasting: bool = False, /) -> str:
        return f"when {self.n} {'was' if self.n == 1 else 'were'} let through in the last {show(self.span)}"

    def _recent(self, counted: Counted, now: float) -> deque[float]:
        window = counted.window
        while window and window[0] <= now - self.span:
            window.popleft()
        return window

    def quota(self, counted: Counted, now: float, /) -> Quota:
        window = self._recent(counted, now)
        reset = window[0] + self.span - now if window else 0.0
        if len(window) < self.n:
            return Quota(self.n - len(window), 0.0, reset)
        # The key is let through when fewer than n are left. With n = 0 that never happens.
        return Quota(0, window[-self.n] + self.span - now if self.n else None, reset)

    @property
    def limit(self) -> float | None:
        return self.n


class Busy(Condition, frozen=True):
    """The queue of the server is full; or, where that is not `wanted`, it has room."""

    wanted: bool
    counts = "load"
    tells = frozenset({"wait"})

    def holds(self, counted: Counted, now: float, _owners: Owners, /) -> bool:
        return (self._room_in(counted, now) > 0) is self.wanted

    def saw(self, counted: Counted, now: float, /) -> str:
        return f"{0 if counted.load is None else counted.load.waiting(now):.3g} units of work waited"

    def words(self, _lasting: bool = False, /) -> str:
        return "while its queue is full" if self.wanted else "while its queue has room"

    def quota(self, counted: Counted, now: float, /) -> Quota:
        return Quota(wait=self._room_in(counted, now) if self.wanted else None)

    def _room_in(self, counted: Counted, now: float) -> float:
        return 0.0 if counted.load is None else counted.load.room_in(now)


class Times(Condition, frozen=True):
    """The rule with this index has fired fewer than `n` times under this key."""

    rule: int
    n: int
    counts = "firings"

    @classmethod
    def of(cls, value: Any, _rule: Keys, index: int) -> Condition | None:
        return cls(index, value)

    def holds(self, counted: Counted, _now: float, _owners: Owners, /) -> bool:
        return counted.fired.get(self.rule, 0) < self.n

    def saw(self, counted: Counted, _now: float, /) -> str:
        return f"it had fired {times_in_words(counted.fired.get(self.rule, 0))}"

    def left(self, counted: Counted, /) -> int | None:
        return self.n - counted.fired.get(self.rule, 0)

    def words(self, _lasting: bool = False, /) -> str:
        return f"at most {times_in_words(self.n)}"


Per = some_of(*PER)


class When(Table):
    """A moment, and conditions that must all hold."""

    on: tuple[str, ...] = required(Names, about="The moment, or a list of them.")
    where: dict[str, Any] | None = key(
        any_table("a table of facts"),
        about='Facts that must match: a glob, a value, or a list of them; "none" is absent; header.NAME reads a header.',
    )
    per: tuple[str, ...] = key(Per, about="Count events separately for each of these.", default=("server",))
    nth: int | None = key(Count, Nth, about="Only the Nth event.")
    every: int | None = key(Count, Every, about="Every Nth event.")
    first: int | Span | None = key(
        Amount, First, about="Only the first N events, or the events within this time of the first one."
    )
    after: int | Span | None = key(
        Amount,
        After,
        about="Only the events after the first N, or after this time; for `idle`, the length of the silence.",
    )
    over: int | None = key(
        whole_number(0),
        Over,
        about="Only if N others are already in: live connections that have passed here, or transactions, transfers or requests in progress.",
    )
    within: float | None = key(
        Length, about="With `over`: count the events that were let through in this sliding window instead."
    )
    busy: bool | None = key(
        Flag, Busy, about="Only while the `queue` of [server] is full; or, if false, only while it has room."
    )
    times: int | None = key(Count, Times, about="Fire at most N times.")
    chance: float | None = key(Percent, about="Fire with this probability, drawn from the seed.")
    since: str | None = key(
        one_of(*SINCE),
        about="For `idle`, what the silence is measured from: the last command or byte of a transfer (any), the last command even during a transfer (command), the last transfer, or the connect.",
    )


NOT_COUNTED = ("on", "where", "per", "within", "chance", "since")  # keys of `When` that are no conditions on counts


def _rows() -> dict[str, type[Condition]]:
    """The class of each condition, by its key. Raises TypeError if a key or a class stands alone."""
    found = {
        name: row
        for name, one in When.KEYS.items()
        for row in one.marks
        if isinstance(row, type) and issubclass(row, Condition)
    }
    if alone := [name for name in When.KEYS if name not in found and name not in NOT_COUNTED]:
        raise TypeError(f"the condition {alone[0]!r} names no class: {alone[0]} = key(KIND, CLASS, about=…)")
    named = {Variant.__name__, *(row.__name__ for row in found.values())}
    if nameless := sorted({one.__name__ for one in Condition.__subclasses__()} - named):
        raise TypeError(f"no key of When names the condition {nameless[0]}")
    for row in found.values():
        if row.holds is Condition.holds or row.words is Condition.words:
            raise TypeError(f"the condition {row.__name__} needs 'holds' and 'words'")
    return found


CONDITIONS = _rows()
LIMITS = tuple(key for key, row in reversed(CONDITIONS.items()) if "limit" in vars(row))


def conditions(rule: When, index: int = 0) -> dict[str, Condition]:
    """The conditions of a rule by their keys; `index` is its place in its phase."""
    given = ((key, row, getattr(rule, key)) for key, row in CONDITIONS.items())
    found = ((key, row.of(value, rule, index)) for key, row, value in given if value is not None)
    return {key: condition for key, condition in found if condition is not None}


def limit(rule: When) -> float | None:
    """The number that `{limit}` stands for in what a rule says; at `idle` it is the length of the silence."""
    if "idle" in rule.on and rule.after is not None:
        return rule.after
    found = [condition.limit for condition in conditions(rule).values() if condition.limit is not None]
    return found[-1] if found else None


def exclude(one: Condition, other: Condition) -> bool:
    """True if no event satisfies both conditions."""
    if isinstance(one, Nth) and isinstance(other, Every):
        return one.n % other.n != 0
    (from_one, to_one), (from_other, to_other) = one.events, other.events
    if (to_one is not None and from_other > to_one) or (to_other is not None and from_one > to_other):
        return True
    (since_one, until_one), (since_other, until_other) = one.seconds, other.seconds
    return (until_one is not None and since_other >= until_one) or (
        until_other is not None and since_one >= until_other
    )
